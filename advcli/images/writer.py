"""Perturbed images as files: written whole or not at all, and read back as anyone would.

PNG     uint8 [h, w, c], c = 1 (grey), 3 (RGB) or 4 (RGBA): lossless
.npy    float32 [h, w, c] in [0, 1]
"""

from __future__ import annotations

import hashlib
import io
import os
import secrets
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from advcli.errors import AdvcliError, NoVerdictError
from advcli.images.decode import ImageReadError
from advcli.images.text import printable

__all__ = ["DRAFT", "ImageWriter", "read_back", "write_bytes", "write_npy", "write_png"]

DRAFT = ".advcli-*.tmp"  # a file that is being written; a kill may leave one behind

Pixels = NDArray[np.uint8] | NDArray[np.float32]

_COMPRESSION = 3  # of zlib's 9: perturbed pixels hardly compress, so more only costs time
_WAITING_PER_THREAD = 8


def write_png(path: Path, pixels: NDArray[np.uint8]) -> str:
    """Writes uint8 [h, w, c], c in {1, 3, 4}, losslessly; returns the file's SHA-256.

    Creates the folders above. Raises ValueError for anything but such an array, and
    NoVerdictError where the file cannot be written; then no part of it is left.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] not in (1, 3, 4):
        raise ValueError(f"no uint8 image [h, w, 1|3|4]: {pixels.dtype} {pixels.shape}")
    plane = pixels[:, :, 0] if pixels.shape[2] == 1 else pixels
    data = io.BytesIO()
    image = Image.fromarray(np.ascontiguousarray(plane))
    image.save(data, "PNG", compress_level=_COMPRESSION)
    return write_bytes(path, data.getvalue())


def write_npy(path: Path, pixels: NDArray[np.float32]) -> str:
    """Writes float32 [h, w, c] in NumPy's format; returns the file's SHA-256; raises as above."""
    if pixels.dtype != np.float32 or pixels.ndim != 3:
        raise ValueError(f"no float32 image [h, w, c]: {pixels.dtype} {pixels.shape}")
    data = io.BytesIO()
    np.save(data, np.ascontiguousarray(pixels), allow_pickle=False)
    return write_bytes(path, data.getvalue())


def read_back(path: Path) -> Pixels:
    """What a file written here holds: uint8 [h, w, c] of a PNG, float32 [h, w, c] of a .npy.

    Raises ImageReadError where the file is missing, damaged or of another kind.
    """
    try:
        if path.suffix == ".npy":
            array = np.load(path, allow_pickle=False)
            if not isinstance(array, np.ndarray) or array.dtype != np.float32 or array.ndim != 3:
                raise ImageReadError("not the float32 image [h, w, c] that was written")
            return array
        with Image.open(path, formats=["PNG"]) as image:
            if image.mode not in ("L", "RGB", "RGBA"):
                raise ImageReadError(f"a PNG of mode {image.mode}, which advcli does not write")
            pixels = np.array(image, dtype=np.uint8)
    except ImageReadError:
        raise
    except Exception as error:
        text = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise ImageReadError(f"cannot be read back: {printable(str(text), 160)}") from error
    return pixels[:, :, None] if pixels.ndim == 2 else pixels


def write_bytes(path: Path, data: bytes) -> str:
    """Writes a file in one step (temporary file beside it, fsync, rename); returns its SHA-256."""
    temporary = path.parent / DRAFT.replace("*", secrets.token_hex(8))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise NoVerdictError(
            f"{printable(str(path))}: cannot be written: {error.strerror or error}",
            "make room or change permissions there, then go on with --resume",
        ) from error
    return hashlib.sha256(data).hexdigest()


class ImageWriter:
    """Writes images in threads, a bounded number waiting; the first failure is raised.

    As a context manager it closes itself; a failure of the body is not masked by one of a write.
    """

    def __init__(self, threads: int = 2) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="advcli-write")
        self._room = threading.BoundedSemaphore(threads * _WAITING_PER_THREAD)
        self._failure: BaseException | None = None

    def submit(self, path: Path, pixels: Pixels) -> Future[str]:
        """Queues uint8 pixels as PNG, float32 as .npy; the future gives the file's SHA-256.

        Waits while the queue is full. `pixels` are copied. Raises an earlier write's failure.
        """
        self._raise_failure()
        write: Callable[[Path, Any], str] = write_png if pixels.dtype == np.uint8 else write_npy
        copied = np.array(pixels)
        self._room.acquire()
        try:
            future = self._pool.submit(write, path, copied)
        except BaseException:
            self._room.release()
            raise
        future.add_done_callback(self._done)
        return future

    def close(self) -> None:
        """Waits until everything is written; raises the first failure as an AdvcliError."""
        self._pool.shutdown(wait=True)
        self._raise_failure()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.shutdown(wait=True)
        if error is None:
            self._raise_failure()

    def _done(self, future: Future[str]) -> None:
        self._room.release()
        if not future.cancelled() and self._failure is None:
            self._failure = future.exception()

    def _raise_failure(self) -> None:
        if self._failure is None:
            return
        if isinstance(self._failure, AdvcliError):
            raise self._failure
        raise NoVerdictError(
            f"an image could not be written: {self._failure}", "run again with -v for the cause"
        ) from self._failure

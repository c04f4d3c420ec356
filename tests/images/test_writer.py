"""The writer: lossless, whole or not at all, and a failure is never lost."""

import errno
import hashlib
import os
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from advcli.errors import AdvcliError, NoVerdictError
from advcli.images import writer
from advcli.images.decode import ImageReadError
from advcli.images.writer import ImageWriter, read_back, write_bytes, write_npy, write_png


def noise(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 7, 1), (5, 7, 3), (5, 7, 4), (64, 3, 3)])
def test_png_is_lossless(tmp_path: Path, shape: tuple[int, int, int]) -> None:
    pixels = noise(shape)
    if shape[2] == 4:
        pixels[:, :, 3] = 0  # fully transparent pixels keep their colour
    path = tmp_path / "new" / "folder" / "a.jpg.png"
    digest = write_png(path, pixels)
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()
    np.testing.assert_array_equal(read_back(path), pixels)
    with Image.open(path) as image:
        assert image.mode == {1: "L", 3: "RGB", 4: "RGBA"}[shape[2]]
        np.testing.assert_array_equal(np.asarray(image).reshape(shape), pixels)


def test_a_view_is_written_as_it_looks(tmp_path: Path) -> None:
    pixels = noise((6, 8, 3))[::2, ::-1]
    write_png(tmp_path / "a.png", pixels)
    np.testing.assert_array_equal(read_back(tmp_path / "a.png"), pixels)


def test_npy_keeps_every_bit(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).random((4, 5, 3), dtype=np.float32)
    digest = write_npy(tmp_path / "a.npy", pixels)
    assert digest == hashlib.sha256((tmp_path / "a.npy").read_bytes()).hexdigest()
    back = read_back(tmp_path / "a.npy")
    assert back.dtype == np.float32
    np.testing.assert_array_equal(back, pixels)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((2, 2), np.uint8),
        np.zeros((2, 2, 2), np.uint8),
        np.zeros((2, 2, 3), np.float32),
        np.zeros((2, 2, 3), np.int64),
    ],
)
def test_png_refuses_other_arrays(tmp_path: Path, array: np.ndarray) -> None:
    with pytest.raises(ValueError, match="no uint8 image"):
        write_png(tmp_path / "a.png", array)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fails", ["fsync", "replace"])
def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    path = tmp_path / "a.png"
    write_bytes(path, b"old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, fails, full)
    with pytest.raises(NoVerdictError, match="No space left") as caught:
        write_bytes(path, b"new")
    assert caught.value.hint
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.png"]


def test_an_interrupted_write_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_bytes(tmp_path / "a.png", b"new")
    assert list(tmp_path.iterdir()) == []


def test_the_file_has_the_users_permissions(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    write_bytes(tmp_path / "a.png", b"x")
    assert (tmp_path / "a.png").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_read_back_names_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0")
    Image.new("P", (2, 2)).save(tmp_path / "palette.png")
    Image.new("RGB", (2, 2)).save(tmp_path / "jpeg.png", "JPEG")
    np.save(tmp_path / "double.npy", np.zeros((2, 2, 3)))
    np.save(tmp_path / "object.npy", np.array([{}], dtype=object))
    (tmp_path / "empty.npy").touch()
    for name in ("torn", "palette", "jpeg", "missing"):
        with pytest.raises(ImageReadError):
            read_back(tmp_path / f"{name}.png")
    for name in ("double", "object", "empty", "missing"):
        with pytest.raises(ImageReadError):
            read_back(tmp_path / f"{name}.npy")


def test_the_asynchronous_writer_writes_all(tmp_path: Path) -> None:
    images = [noise((8, 8, 3), seed) for seed in range(60)]
    with ImageWriter() as images_out:
        futures = []
        for i, pixels in enumerate(images):
            buffer = pixels.copy()
            futures.append(images_out.submit(tmp_path / f"{i % 7}" / f"{i}.png", buffer))
            buffer[:] = 0  # the writer has its own copy
        images_out.submit(tmp_path / "float.npy", np.ones((2, 2, 1), np.float32))
    for i, pixels in enumerate(images):
        path = tmp_path / f"{i % 7}" / f"{i}.png"
        np.testing.assert_array_equal(read_back(path), pixels)
        assert futures[i].result() == hashlib.sha256(path.read_bytes()).hexdigest()
    assert read_back(tmp_path / "float.npy").dtype == np.float32


def test_the_queue_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()
    monkeypatch.setattr(writer, "write_png", lambda *_: gate.wait(10))
    images_out = ImageWriter(threads=2)
    submitted = 0

    def submit_all() -> None:
        nonlocal submitted
        for i in range(100):
            images_out.submit(tmp_path / f"{i}.png", noise((2, 2, 3)))
            submitted += 1

    feeder = threading.Thread(target=submit_all)
    feeder.start()
    feeder.join(0.3)
    assert feeder.is_alive()
    assert submitted == 2 * writer._WAITING_PER_THREAD
    gate.set()
    feeder.join(10)
    images_out.close()
    assert submitted == 100


def test_a_failure_is_raised_at_close_and_at_the_next_submit(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    images_out = ImageWriter()
    future = images_out.submit(tmp_path / "file" / "below.png", noise((2, 2, 3)))
    with pytest.raises(AdvcliError):
        future.result(10)
    with pytest.raises(AdvcliError, match=r"below\.png"):
        images_out.submit(tmp_path / "fine.png", noise((2, 2, 3)))
    with pytest.raises(AdvcliError, match=r"below\.png"):
        images_out.close()


def test_a_failure_does_not_mask_the_bodys_own(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    def body() -> None:
        with ImageWriter() as images_out:
            images_out.submit(tmp_path / "file" / "below.png", noise((2, 2, 3)))
            raise RuntimeError("of the body")

    with pytest.raises(RuntimeError, match="of the body"):
        body()


def test_an_odd_array_is_an_error_not_a_silence(tmp_path: Path) -> None:
    with pytest.raises(NoVerdictError, match="could not be written"), ImageWriter() as images_out:
        images_out.submit(tmp_path / "a.png", np.zeros((2, 2), np.uint8))

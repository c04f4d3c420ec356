"""`decode`: sizes, threads, quiet; and nothing but ImageReadError on what is broken.

What comes of each format is in test_formats.
"""

import io
import os
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from advcli.images import decode as module
from advcli.images.decode import ImageReadError, decode

ZOO = Path(__file__).parents[2] / "../shared/zoo/images"


def ramp(height: int, width: int, channels: int = 3) -> np.ndarray:
    values = np.arange(height * width * channels) * 255 // (height * width * channels - 1)
    return values.reshape(height, width, channels).astype(np.uint8)


def encoded(array: np.ndarray, format: str = "PNG", **options: Any) -> bytes:
    data = io.BytesIO()
    Image.fromarray(array).save(data, format, **options)
    return data.getvalue()


def reason(path: Path) -> str:
    with pytest.raises(ImageReadError) as caught:
        decode(path, (8, 8, 3))
    assert caught.value.reason == str(caught.value)
    assert caught.value.reason.isprintable()
    return caught.value.reason


# --- orientation


def test_corrupt_exif_costs_the_orientation_only(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(encoded(ramp(4, 6), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff\x01"))
    assert decode(path, (4, 6, 3)).original_size == (4, 6)


# --- depth


def test_16_bit_big_endian_tiff(tmp_path: Path) -> None:
    values = np.array([[0, 257 * 7, 65535]], np.uint16)
    image = Image.frombytes("I;16B", (3, 1), values.astype(">u2").tobytes())
    image.save(tmp_path / "a.tif")
    assert decode(tmp_path / "a.tif", (1, 3, 1)).pixels.ravel().tolist() == [0, 7, 255]


# --- size


def test_pad_keeps_the_whole_image_and_its_shape(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded(np.full((10, 20, 3), 200, np.uint8)))
    pixels = decode(tmp_path / "a.png", (8, 8, 3), resize="pad").pixels
    assert (pixels[2:6] == 200).all()
    assert (pixels[:2] == 0).all()
    assert (pixels[6:] == 0).all()


def test_crop_takes_the_centre(tmp_path: Path) -> None:
    array = np.zeros((10, 30, 3), np.uint8)
    array[:, 10:20] = 255
    (tmp_path / "a.png").write_bytes(encoded(array))
    assert (decode(tmp_path / "a.png", (10, 10, 3), resize="crop").pixels == 255).all()


@pytest.mark.parametrize("resize", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("size", [(1, 3000), (3000, 1), (1, 1)])
def test_extreme_shapes(tmp_path: Path, resize: Any, size: tuple[int, int]) -> None:
    (tmp_path / "a.png").write_bytes(encoded(np.full((*size, 3), 9, np.uint8)))
    assert decode(tmp_path / "a.png", (5, 7, 3), resize=resize).pixels.shape == (5, 7, 3)


@pytest.mark.parametrize("shape", [(8, 8, 2), (8, 8, 5), (0, 8, 3)])
def test_impossible_shapes_are_the_callers_error(tmp_path: Path, shape: Any) -> None:
    with pytest.raises(ValueError, match="1, 3 or 4"):
        decode(tmp_path / "a.png", shape)


# --- what is no image


def test_names_that_no_file_can_have(tmp_path: Path) -> None:
    assert "No such file" in reason(tmp_path / "missing.png")
    assert "null" in reason(tmp_path / "a\0b.png")
    assert "File name too long" in reason(tmp_path / ("x" * 300))


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc")
def test_no_file_stays_open(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded(ramp(4, 4)))
    (tmp_path / "torn.png").write_bytes(encoded(ramp(4, 4))[:50])
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        decode(tmp_path / "a.png", (4, 4, 3))
        reason(tmp_path / "torn.png")
        reason(tmp_path)
    assert len(os.listdir("/proc/self/fd")) == before


def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refused)
    assert reason(tmp_path / "a.png") == "cannot be opened: Permission denied"


def test_large_images_take_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LARGE_PIXELS", 10)
    (tmp_path / "a.png").write_bytes(encoded(ramp(8, 8)))
    at_once, most = 0, 0
    converted = module._converted

    def counted(image: Image.Image, mode: str) -> Image.Image:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        time.sleep(0.01)
        at_once -= 1
        return converted(image, mode)

    monkeypatch.setattr(module, "_converted", counted)
    threads = [
        threading.Thread(target=decode, args=(tmp_path / "a.png", (8, 8, 3))) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


def test_no_warning_of_pillow_reaches_the_user(tmp_path: Path, recwarn: Any) -> None:
    palette = Image.fromarray(ramp(4, 4)).quantize(16)
    palette.save(tmp_path / "a.png", transparency=bytes(range(16)))
    decode(tmp_path / "a.png", (4, 4, 3))
    assert not recwarn.list


def test_no_log_line_of_pillow_reaches_the_user(tmp_path: Path) -> None:
    """A TIFF that claims 300 samples a pixel: Pillow logs an error, once, from a fresh process."""
    data = bytearray(encoded(ramp(4, 4), "TIFF"))
    entry = data.index(struct.pack("<HHI", 277, 3, 1))
    data[entry + 8 : entry + 10] = struct.pack("<H", 300)
    (tmp_path / "a.tif").write_bytes(data)
    script = (
        "import sys\nfrom advcli.images.decode import ImageReadError, decode\n"
        "try: decode(sys.argv[1], (4, 4, 3))\nexcept ImageReadError: print('refused')"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "a.tif"], capture_output=True, check=True
    )
    assert (done.stdout, done.stderr) == (b"refused\n", b"")


def test_decoding_needs_no_tensorflow() -> None:
    script = (
        "import advcli.images.stream, advcli.images.writer, sys; sys.exit('keras' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0


# --- damaged photographs (more damage: tests.fuzz.images)


def only_reads_or_refuses(path: Path, data: bytes, shape: tuple[int, int, int]) -> None:
    path.write_bytes(data)
    try:
        decoded = decode(path, shape)
    except ImageReadError as error:
        refused = error.reason
    else:
        refused = ""
        assert decoded.pixels.shape == shape
    assert len(refused) < 250
    assert refused == "" or refused.isprintable()


@pytest.mark.skipif(not ZOO.is_dir(), reason=f"no real images at {ZOO}")
def test_damaged_real_photographs(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for path in sorted((ZOO / "photographs").iterdir())[:6]:
        data = bytearray(path.read_bytes())
        for at in rng.integers(0, len(data), 20):
            data[at] = rng.integers(256)
        only_reads_or_refuses(tmp_path / "a", bytes(data), (32, 32, 3))
        only_reads_or_refuses(tmp_path / "a", bytes(data[: len(data) // 3]), (32, 32, 3))

"""The clean image is what Keras's own `load_img` shows, for every format and mode that both read.

The differences that are meant (16-bit grey, EXIF) are in test_formats.
"""

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, features

from advcli.images.decode import decode

ZOO = Path(__file__).parents[2] / "../shared/zoo/images"
MODES = {"grayscale": 1, "rgb": 3, "rgba": 4}

# Every mode that a format can hold; the extension picks the format.
FILES = {
    "grey.jpg": "L",
    "colour.jpg": "RGB",
    "cmyk.jpg": "CMYK",
    "bits.png": "1",
    "grey.png": "L",
    "palette.png": "P",
    "palette-one-clear.png": "P",
    "palette-alpha.png": "P",
    "grey-alpha.png": "LA",
    "colour.png": "RGB",
    "colour-keyed.png": "RGB",
    "alpha.png": "RGBA",
    "palette.gif": "P",
    "animated.gif": "RGB",
    "clear.gif": "RGBA",
    "animated.png": "RGBA",
    "colour.bmp": "RGB",
    "palette.bmp": "P",
    "bits.bmp": "1",
    "alpha.bmp": "RGBA",
    "grey.tif": "L",
    "bits.tif": "1",
    "colour.tif": "RGB",
    "alpha.tif": "RGBA",
    "cmyk.tif": "CMYK",
    "palette.tif": "P",
    "pages.tif": "RGB",
    "ycc.tif": "YCbCr",
    "colour.webp": "RGB",
    "alpha.webp": "RGBA",
    "colour.ppm": "RGB",
    "grey.pgm": "L",
    "bits.pbm": "1",
    "colour.avif": "RGB",
    "colour.jp2": "RGB",
    "alpha.ico": "RGBA",
    "colour.qoi": "RGB",
    "colour.sgi": "RGB",
    "colour.tga": "RGB",
}


def picture(mode: str, seed: int = 0) -> Image.Image:
    """Noise over a gradient, with every alpha value."""
    noise = np.random.default_rng(seed).integers(0, 256, (24, 32, 4), dtype=np.uint8)
    noise[:, :, 0] = np.arange(32) * 8
    if mode in ("RGBA", "CMYK"):
        return (
            Image.fromarray(noise, mode="RGBA")
            if mode == "RGBA"
            else Image.frombytes("CMYK", (32, 24), noise.tobytes())
        )
    colour = Image.fromarray(noise[:, :, :3])
    if mode == "LA":
        return Image.fromarray(noise).convert("LA")
    return colour.quantize(64) if mode == "P" else colour.convert(mode)


def save(path: Path, mode: str) -> None:
    options: dict[str, Any] = {}
    name = path.stem
    if name in ("animated", "pages"):
        options |= {"save_all": True, "append_images": [picture(mode, seed=1)]}
    if name == "palette-one-clear":
        options["transparency"] = 5
    if name == "palette-alpha":
        options["transparency"] = bytes(range(64))
    if name == "colour-keyed":
        options["transparency"] = (8, 8, 8)
    if path.suffix == ".ico":
        options["sizes"] = [(32, 24)]
    picture(mode).save(path, **options)


@pytest.fixture(scope="module")
def load_img() -> Callable[..., Image.Image]:
    os.environ["KERAS_BACKEND"] = "tensorflow"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import keras

    def quiet(*args: Any, **options: Any) -> Image.Image:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return keras.utils.load_img(*args, **options)

    return quiet


@pytest.mark.parametrize("name", FILES)
def test_every_format_and_mode(
    tmp_path: Path, load_img: Callable[..., Image.Image], name: str
) -> None:
    if name.endswith(".avif") and not features.check("avif"):
        pytest.skip("this Pillow reads no AVIF")
    path = tmp_path / name
    save(path, FILES[name])
    for color_mode, channels in MODES.items():
        for height, width in ((24, 32), (9, 50)):
            expected = load_img(
                path, color_mode=color_mode, target_size=(height, width), interpolation="bilinear"
            )
            decoded = decode(path, (height, width, channels))
            assert decoded.original_size == (24, 32)
            assert decoded.pixels.dtype == np.uint8
            np.testing.assert_array_equal(
                decoded.pixels, np.asarray(expected).reshape(height, width, channels)
            )


@pytest.mark.parametrize("resample", ["nearest", "bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize("target", [(10, 10), (48, 20), (24, 32), (7, 61)])
@pytest.mark.parametrize("resize", ["stretch", "crop"])
def test_every_way_to_resize(
    tmp_path: Path,
    load_img: Callable[..., Image.Image],
    resample: Any,
    target: tuple[int, int],
    resize: Any,
) -> None:
    path = tmp_path / "a.png"
    picture("RGB").save(path)
    expected = load_img(
        path, target_size=target, interpolation=resample, keep_aspect_ratio=resize == "crop"
    )
    pixels = decode(path, (*target, 3), resize=resize, resample=resample).pixels
    np.testing.assert_array_equal(pixels, np.asarray(expected))


@pytest.mark.skipif(not ZOO.is_dir(), reason=f"no real images at {ZOO}")
@pytest.mark.parametrize("folder", ["photographs", "gtsrb", "mnist", "smiles", "facemask"])
def test_real_images(load_img: Callable[..., Image.Image], folder: str) -> None:
    files = sorted(path for path in (ZOO / folder).rglob("*.*") if path.is_file())
    for path in files[:: max(1, len(files) // 8)]:
        expected = load_img(path, target_size=(64, 96), interpolation="bilinear")
        pixels = decode(path, (64, 96, 3), exif="ignore").pixels
        np.testing.assert_array_equal(pixels, np.asarray(expected))

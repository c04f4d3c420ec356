"""The stream: one order, bounded memory, no image lost, no hang; and nested samples."""

import random
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from advcli.images import stream as module
from advcli.images.decode import decode
from advcli.images.folder import ImageFolder, open_folder
from advcli.images.sample import Shard, hash_order, select
from advcli.images.stream import ImageStream, LoadedImage, pixel_hash

SHAPE = (4, 4, 3)


def make(root: Path, count: int, broken: tuple[int, ...] = ()) -> ImageFolder:
    for i in range(count):
        path = root / f"{i % 3}" / f"{i:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        if i in broken:
            path.write_bytes(b"\x89PNG broken %d" % i)
        else:
            Image.new("RGB", (4, 4), (i, 255 - i, 7)).save(path)
    return open_folder(root)


def paths(images: Iterator[LoadedImage]) -> list[str]:
    return [image.ref.path for image in images]


class Counted:
    """Counts decodings, and can hold them up."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.names: list[str] = []
        self.passes = ""
        self.gate = threading.Event()
        self.gate.set()
        self._lock = threading.Lock()
        monkeypatch.setattr(module, "decode", self)

    def __call__(self, path: Path, *args: Any, **options: Any) -> Any:
        if path.name != self.passes:
            self.gate.wait(10)
        with self._lock:
            self.names.append(path.name)
        return decode(path, *args, **options)


def threads() -> int:
    return sum(thread.name.startswith("advcli-decode") for thread in threading.enumerate())


# --- what comes out


def test_every_image_in_the_folders_order(tmp_path: Path) -> None:
    folder = make(tmp_path, 40)
    images = list(ImageStream(folder, SHAPE, threads=4))
    assert [image.ref for image in images] == list(folder.refs)
    for image in images:
        expected = decode(folder.file(image.ref), SHAPE).pixels
        assert image.pixels is not None
        np.testing.assert_array_equal(image.pixels, expected)
        assert image.sha256 == pixel_hash(expected)
        assert image.original_size == (4, 4)
        assert not image.pixels.flags.writeable


def test_one_bad_image_costs_one_image(tmp_path: Path) -> None:
    images = list(ImageStream(make(tmp_path, 9, broken=(0, 4, 8)), SHAPE))
    failed = [image for image in images if image.error]
    assert [image.ref.path for image in failed] == ["0/000.png", "1/004.png", "2/008.png"]
    assert all((i.pixels, i.sha256, i.original_size) == (None, None, None) for i in failed)
    assert sum(image.pixels is not None for image in images) == 6


@pytest.mark.parametrize("cache_bytes", [0, 5 * 48, 1 << 20])
@pytest.mark.parametrize("limit", [None, 7])
def test_every_pass_is_the_same(tmp_path: Path, cache_bytes: int, limit: int | None) -> None:
    stream = ImageStream(
        make(tmp_path, 20, broken=(3, 11)), SHAPE, limit=limit, cache_bytes=cache_bytes
    )
    first, second, third = list(stream), list(stream), list(stream)
    for a, b, c in zip(first, second, third, strict=True):
        assert (a.ref, a.sha256, a.error) == (b.ref, b.sha256, b.error)
        assert (a.ref, a.sha256, a.error) == (c.ref, c.sha256, c.error)
    assert sum(image.error is None for image in first) == (limit or 18)


def test_the_hash_tells_shapes_apart() -> None:
    flat = np.arange(12, dtype=np.uint8)
    shapes = [(2, 2, 3), (4, 1, 3), (1, 4, 3), (3, 4, 1), (12, 1, 1)]
    assert len({pixel_hash(flat.reshape(shape)) for shape in shapes}) == 5
    strided = flat.reshape(2, 2, 3)[:, ::-1]
    assert pixel_hash(strided) == pixel_hash(strided.copy())


def test_settings_reach_the_decoder(tmp_path: Path) -> None:
    Image.fromarray(np.arange(96, dtype=np.uint8).reshape(8, 12)).save(tmp_path / "a.png")
    folder = open_folder(tmp_path)
    stream = ImageStream(folder, (4, 4, 1), resize="pad", resample="lanczos", exif="ignore")
    expected = decode(tmp_path / "a.png", (4, 4, 1), resize="pad", resample="lanczos").pixels
    (image,) = stream
    np.testing.assert_array_equal(image.pixels, expected)


# --- decoding ahead


def test_look_ahead_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = Counted(monkeypatch)
    stream = ImageStream(make(tmp_path, 60), SHAPE, threads=2)
    images = iter(stream)
    for taken in range(1, 4):
        next(images)
        time.sleep(0.1)
        assert len(counted.names) <= taken + 2 * module._AHEAD_PER_THREAD
        assert len(counted.names) > taken  # and it does decode ahead
    images.close()


def test_a_limit_decodes_no_image_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = Counted(monkeypatch)
    list(ImageStream(make(tmp_path, 60), SHAPE, limit=5, threads=4))
    assert len(counted.names) == 5


@pytest.mark.parametrize("how", ["close", "drop", "interrupt"])
def test_closing_early_does_not_hang(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    counted = Counted(monkeypatch)
    counted.gate.clear()
    counted.passes = "000.png"  # the others are in the midst of being decoded, or queued
    stream = ImageStream(make(tmp_path, 60), SHAPE, threads=2, cache_bytes=0)
    images = iter(stream)
    next(images)
    start = time.monotonic()
    if how == "close":
        images.close()
    elif how == "interrupt":
        with pytest.raises(KeyboardInterrupt):
            images.throw(KeyboardInterrupt)
    else:
        del images
    assert time.monotonic() - start < 1
    counted.gate.set()
    deadline = time.monotonic() + 5
    while threads() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threads() == 0
    assert len(counted.names) <= 1 + 2  # what was queued was never begun
    assert len(list(stream)) == 60  # and can be gone through again


def test_the_cache_holds_the_first_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = Counted(monkeypatch)
    stream = ImageStream(make(tmp_path, 12, broken=(0,)), SHAPE, cache_bytes=5 * 4 * 4 * 3 + 40)
    first = paths(iter(stream))
    assert len(counted.names) == 12
    counted.names.clear()
    assert paths(iter(stream)) == first
    readable = [Path(path).name for path in first if path != "0/000.png"]
    assert sorted(counted.names) == sorted(readable[5:])


def test_a_subset_decodes_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = Counted(monkeypatch)
    stream = ImageStream(make(tmp_path, 30), SHAPE)
    wanted = ["2/005.png", "0/003.png", "2/005.png", "0/027.png", "nowhere.png"]
    assert paths(stream.subset(wanted)) == ["0/003.png", "0/027.png", "2/005.png"]
    assert sorted(counted.names) == ["003.png", "005.png", "027.png"]


def test_two_passes_at_once(tmp_path: Path) -> None:
    stream = ImageStream(make(tmp_path, 30), SHAPE, limit=20)
    pairs = list(zip(stream, stream, strict=True))
    assert len(pairs) == 20
    assert all(a.sha256 == b.sha256 for a, b in pairs)


def test_a_file_that_changes_between_passes_is_an_error(tmp_path: Path) -> None:
    folder = make(tmp_path, 6)
    stream = ImageStream(folder, SHAPE, cache_bytes=0)
    before = list(stream)
    Image.new("RGB", (4, 4), "red").save(folder.file(before[2].ref))
    after = list(stream)
    assert after[2].pixels is None
    assert "changed" in (after[2].error or "")
    assert [image.error for image in after if image.ref != before[2].ref] == [None] * 5


def test_count_and_bad_limit(tmp_path: Path) -> None:
    folder = make(tmp_path, 6)
    assert ImageStream(folder, SHAPE).count == 6
    assert ImageStream(folder, SHAPE, limit=4).count == 4
    assert ImageStream(folder, SHAPE, limit=40).count == 6
    with pytest.raises(ValueError, match="limit"):
        ImageStream(folder, SHAPE, limit=0)


def test_memory_stays_bounded(tmp_path: Path) -> None:
    """60 images of 3 MB, gone through twice with a cache of 6 MB: far from 180 MB."""
    import tracemalloc

    Image.new("RGB", (8, 8), "red").save(tmp_path / "0.png")
    for i in range(1, 60):
        shutil.copy(tmp_path / "0.png", tmp_path / f"{i}.png")
    stream = ImageStream(open_folder(tmp_path), (1000, 1000, 3), threads=2, cache_bytes=6_000_000)
    tracemalloc.start()
    for _ in range(2):
        for image in stream:
            assert image.pixels is not None
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 60_000_000


# --- samples


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> ImageFolder:
    return make(tmp_path_factory.mktemp("shared"), 30, broken=(2, 9, 17, 25))


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**64), st.integers(1, 40), st.integers(1, 40))
def test_samples_are_nested(shared: ImageFolder, seed: int, small: int, large: int) -> None:
    small, large = sorted((small, large))
    inner = paths(iter(ImageStream(shared, SHAPE, limit=small, seed=seed)))
    outer = list(ImageStream(shared, SHAPE, limit=large, seed=seed))
    assert inner == [image.ref.path for image in outer][: len(inner)]
    assert sum(image.error is None for image in outer) == min(large, 26)


def test_an_unreadable_file_is_replaced_by_the_next(shared: ImageFolder) -> None:
    images = list(ImageStream(shared, SHAPE, limit=26, seed=1))
    assert sum(image.error is None for image in images) == 26
    assert images[-1].error is None  # and none is taken beyond the last that is needed


def test_blocks_are_the_limited_sample_whatever_is_unreadable(shared: ImageFolder) -> None:
    """Image for image what a limit takes, in its order."""
    stream = ImageStream(shared, SHAPE, limit=9, seed=1)
    whole = [image.ref.path for image in stream]
    blocks = []
    for block in ImageStream(shared, SHAPE, limit=9, seed=1).blocks(4):
        blocks.append([image.ref.path for image in block])
    assert [path for block in blocks for path in block] == whole
    assert len(blocks) > 1


def test_seeds_draw_different_samples(shared: ImageFolder) -> None:
    samples = {tuple(paths(iter(ImageStream(shared, SHAPE, limit=5, seed=s)))) for s in range(8)}
    assert len(samples) == 8


def test_the_order_depends_on_seed_path_and_content_only(tmp_path: Path) -> None:
    folder = make(tmp_path / "a", 20)
    order = [ref.path for ref in select(folder, 3, seed=5)]
    shutil.copytree(tmp_path / "a", tmp_path / "elsewhere")
    refs = list(folder.refs)
    random.Random(0).shuffle(refs)
    assert [ref.path for ref in hash_order(tmp_path / "elsewhere", refs, 5)] == order
    touched = {ref.path for ref in folder.refs[:5]}
    for path in touched:
        Image.new("RGB", (4, 4)).save(folder.root / path)
    changed = [ref.path for ref in select(folder, 3, seed=5)]
    assert changed != order
    assert [p for p in changed if p not in touched] == [p for p in order if p not in touched]


def test_without_a_limit_the_order_is_the_folders(shared: ImageFolder) -> None:
    assert select(shared, None, 3) == shared.refs


def test_a_file_that_vanishes_costs_itself(tmp_path: Path) -> None:
    folder = make(tmp_path, 6)
    folder.file(folder.refs[1]).unlink()
    images = list(ImageStream(folder, SHAPE, limit=5))
    assert sum(image.error is None for image in images) == 5
    assert all("No such file" in (image.error or "No such file") for image in images)


def test_the_choice_is_fixed_after_the_first_pass(tmp_path: Path) -> None:
    folder = make(tmp_path, 20, broken=(1, 5, 8))
    stream = ImageStream(folder, SHAPE, limit=6, cache_bytes=0)
    half = iter(stream)
    next(half)
    half.close()
    chosen = paths(iter(stream))
    for image in list(stream)[:1]:
        folder.file(image.ref).unlink()
    again = list(stream)
    assert [image.ref.path for image in again] == chosen
    assert set(paths(stream.subset([ref.path for ref in folder.refs]))) == set(chosen)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.integers(1, 8), st.integers(0, 2000))
def test_threads_and_cache_do_not_show(shared: ImageFolder, workers: int, cache: int) -> None:
    plain = [(i.ref, i.sha256, i.error) for i in ImageStream(shared, SHAPE, threads=1)]
    other = ImageStream(shared, SHAPE, threads=workers, cache_bytes=cache)
    assert [(i.ref, i.sha256, i.error) for i in other] == plain


def test_a_shard_is_the_same_part_whatever_else_is_asked(tmp_path: Path) -> None:
    folder = make(tmp_path, 20)
    for number in (1, 2, 3):
        shard = Shard(number, 3)
        plain = paths(iter(ImageStream(folder, SHAPE, shard=shard)))
        assert plain == sorted(plain)  # the folder's order
        limited = paths(iter(ImageStream(folder, SHAPE, shard=shard, limit=20)))
        blocks = ImageStream(folder, SHAPE, shard=shard).blocks(3)
        dealt = [path for block in blocks for path in paths(iter(block))]
        assert sorted(limited) == sorted(dealt) == plain
        few = paths(iter(ImageStream(folder, SHAPE, shard=shard, limit=9)))
        assert few == limited[:3]

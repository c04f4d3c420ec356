"""Every format of a photo folder against its row in FORMATS.md, the table for people.

python -m tests.images.test_formats      writes FORMATS.md from the cases
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from advcli.images.decode import ImageReadError, decode
from advcli.images.folder import open_folder
from advcli.images.stream import ImageStream

from .formats import CASES, Case, luma

TABLE = Path(__file__).with_name("FORMATS.md")
_INTRO = """\
# Image formats and what comes of them

Written by `python -m tests.images.test_formats`; every row is a case in `formats/` and is
proven by `test_formats.py`: *exact* means value for value, *within 4* means at most four of 255
levels from the picture that was saved. A model of one channel sees a colour image's luma
(ITU-R 601), a model of three sees a grey image three times, a model of four sees the alpha of the
file, or 255. What is refused costs that file alone, and is reported by name with this reason.

| file | for 3 channels | for 1 channel | for 4 channels | note |
| --- | --- | --- | --- | --- |
"""


def table() -> str:
    return _INTRO + "".join(f"| {' | '.join(_row(case))} |\n" for case in CASES)


def _row(case: Case) -> tuple[str, ...]:
    if case.shown is None:
        return case.title, f"refused: {case.refused}", "–", "–", case.note
    channels = case.expected(case.variants[0]).shape[2]
    measure = f"within {case.within}" if case.within else "exact"
    grey = "as stored" if channels == 1 else "luma"
    alpha = "its alpha" if channels == 4 else "255"
    colour = "three times" if channels == 1 else "as stored"
    return case.title, f"{measure}: {colour}", f"{measure}: {grey}", f"alpha: {alpha}", case.note


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.title)
def test_what_comes_of_it(case: Case, tmp_path: Path) -> None:
    if case.skip:
        pytest.skip(case.skip)
    for variant in case.variants:
        path = tmp_path / str(variant) / case.file
        path.parent.mkdir()
        case.make(path, variant)
        if case.shown is None:
            for channels in (1, 3, 4):
                with pytest.raises(ImageReadError) as caught:
                    decode(path, (8, 8, channels))
                assert case.refused in caught.value.reason
                assert caught.value.reason.isprintable()
        else:
            _check_pixels(case, path, variant)


def _check_pixels(case: Case, path: Path, variant: int) -> None:
    stored = case.expected(variant)
    height, width, channels = stored.shape
    colour = np.repeat(stored, 3, axis=2) if channels == 1 else stored[:, :, :3]
    grey = stored if channels == 1 else luma(colour)
    alpha = stored[:, :, 3:] if channels == 4 else np.full_like(grey, 255)
    for wanted in (colour, grey, np.concatenate([colour, alpha], axis=2)):
        found = decode(path, wanted.shape, exif=case.exif)
        assert found.original_size == (height, width)
        difference = np.abs(found.pixels.astype(int) - wanted)
        assert difference.max() <= case.within


def test_one_odd_file_costs_itself(tmp_path: Path) -> None:
    """All of them in one folder, each its own outcome; what the listing leaves out included."""
    made = {}
    (tmp_path / "x").mkdir()
    for number, case in enumerate(CASES):
        if not case.skip:
            name = f"x/{number:03}{Path(case.file).suffix}"
            case.make(tmp_path / name, case.variants[-1])
            made[name] = case
    folder = open_folder(tmp_path)
    listed = {entry.file.rstrip("/"): entry.reason for entry in folder.skipped}
    unseen = set(made)
    for name, why in listed.items():
        assert made[name].lister
        assert made[name].lister in why
        unseen.remove(name)
    for loaded in ImageStream(folder, (6, 5, 3)):
        case = made[loaded.ref.path]
        assert (loaded.pixels is None) == (case.shown is None)
        assert case.refused in (loaded.error or "")
        unseen.remove(loaded.ref.path)
    assert unseen == {name for name, case in made.items() if case.lister == "folder"}


def test_the_table_is_the_one_in_the_repository() -> None:
    assert TABLE.read_text(encoding="utf-8") == table()
    assert len({case.title for case in CASES}) == len(CASES)


if __name__ == "__main__":
    TABLE.write_text(table(), encoding="utf-8")

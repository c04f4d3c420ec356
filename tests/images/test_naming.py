"""`output_path`: never outside its base, never the same for two images."""

import os
import re
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from advcli.images.naming import output_path

BASE = Path("/runs/one/images/pgd/linf-8_255")
PARTS = st.one_of(
    st.sampled_from(["", ".", "..", "a", "A", "a.png", "CON", "aux.jpg", "a~0123456789abcdef"]),
    st.text(st.characters(exclude_characters="/", exclude_categories=[]), max_size=8),
    st.text("é猫ab", min_size=70, max_size=260),
)
PATHS = st.lists(PARTS, min_size=1, max_size=4).map("/".join)


def test_ordinary_names_stay() -> None:
    for name in ("cat/a.jpg", "a.JPEG", "x/y z/é 猫 (1).tar.png", "a", "a..b", "-rf", "it's"):
        assert output_path(BASE, name) == BASE / f"{name}.png"
    assert output_path(BASE, "cat/a.jpg", ".npy") == BASE / "cat/a.jpg.npy"


@given(PATHS)
@example("../../../etc/passwd")
@example("/etc/passwd")
@example("C:\\Windows\\x.png")
@example("a\0b\n\x1b[31m.png")
@example("\udcff\ud800.png")
@example("con.jpg" + "x" * 300)
def test_stays_inside_and_is_a_sound_name_everywhere(relative: str) -> None:
    path = output_path(BASE, relative)
    inside = os.path.normpath(path)
    assert inside == str(path)
    assert inside.startswith(str(BASE) + "/")
    for part in path.relative_to(BASE).parts:
        assert len(part.encode("utf-8")) <= 255
        assert not re.search(r'[\x00-\x1f\x7f-\x9f<>:"|?*\\]', part)
        assert not part.endswith((" ", "."))
        assert not re.fullmatch(r"(?i)(con|prn|aux|nul|com[0-9]|lpt[0-9])", part.split(".")[0])


@given(st.lists(PATHS, min_size=2, max_size=12, unique=True), st.sampled_from([".png", ".npy"]))
@example(["a:b", "a_b"], ".png")
@example(["a//b", "a/b", "a/./b", "a/../b", "/a/b"], ".png")
def test_two_inputs_never_meet(names: list[str], suffix: str) -> None:
    paths = [output_path(BASE, name, suffix) for name in names]
    assert len(set(paths)) == len(names)
    folders = {parent for path in paths for parent in path.parents}
    assert not folders & set(paths)  # a file where another image needs a folder


def test_a_changed_name_cannot_be_forged() -> None:
    changed = output_path(BASE, "a:b", ".png").name.removesuffix(".png")
    assert output_path(BASE, changed) != output_path(BASE, "a:b")


def test_a_folder_named_like_an_output() -> None:
    assert output_path(BASE, "x") not in output_path(BASE, "x.png/y").parents


@pytest.mark.parametrize("name", ["e" * 255, "猫" * 85, "../" * 5 + "x", "a\nb.png", "\udcff.png"])
def test_such_a_file_can_be_written(tmp_path: Path, name: str) -> None:
    path = output_path(tmp_path, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [path]

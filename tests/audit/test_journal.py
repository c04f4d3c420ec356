import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from advcli.audit.directory import RunDirectory, attack_folder
from advcli.audit.journal import Journal, read_lines
from advcli.errors import RunError

from .support import answer, clean, phase

LINES = [clean("ä\udcff.png", 0, 0), clean("b", 1, 1), answer("b", 0, success=True)]


def written(path: Path) -> bytes:
    with Journal(path) as journal:
        for line in LINES:
            journal.append(line)
    return path.read_bytes()


def test_what_is_appended_is_read(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    written(path)
    assert list(read_lines(path)) == LINES
    assert list(read_lines(tmp_path / "none")) == []


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_kill_at_any_byte_costs_the_torn_line_alone(data: st.DataObject) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "results.jsonl"
        whole = written(path)
        cut = data.draw(st.integers(0, len(whole)))
        path.write_bytes(whole[:cut])
        kept = whole[:cut].count(b"\n")
        assert list(read_lines(path)) == LINES[:kept]
        with Journal(path) as journal:
            for line in LINES[kept:]:
                journal.append(line)
        assert path.read_bytes() == whole


def test_a_damaged_line_in_the_middle_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    path.write_bytes(b'{"image": "a", "attack": "clean"}\n{"ima\n{"image": "b", "attack": "x"}\n')
    with pytest.raises(RunError, match="line 2 is damaged"):
        list(read_lines(path))


def test_no_nan_reaches_the_journal(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    with Journal(path) as journal:
        journal.append(answer("a", 1, success=True, distance=float("inf")))
    assert json.loads(path.read_text())["distance"]["l2"] is None


def test_a_run_directory_is_refused_for_what_it_holds(tmp_path: Path) -> None:
    RunDirectory(tmp_path / "new").check_usable(resume=False)
    (tmp_path / "empty").mkdir()
    RunDirectory(tmp_path / "empty").check_usable(resume=False)
    (tmp_path / "empty" / ".advcli-0123456789abcdef.tmp").touch()  # of a run that was killed
    RunDirectory(tmp_path / "empty").check_usable(resume=True)
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.tex").touch()
    with pytest.raises(RunError, match=r"thesis\.tex"):
        RunDirectory(other).check_usable(resume=True)
    run = RunDirectory(tmp_path / "run")
    run.root.mkdir()
    run.write_run({})
    run.check_usable(resume=True)
    with pytest.raises(RunError, match="holds a run already"):
        run.check_usable(resume=False)
    with pytest.raises(RunError, match="is a file"):
        RunDirectory(other / "thesis.tex").check_usable(resume=False)


def test_two_cannot_write_one_run(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    with (
        run.lock(),
        pytest.raises(RunError, match="another process"),
        RunDirectory(run.root).lock(),
    ):
        pass
    with run.lock():
        pass


def test_where_images_go(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    assert run.perturbed_file(phase(), 8 / 255, "cat/a.jpg", ".png") == (
        "images/pgd/linf-8_255/cat/a.jpg.png"
    )
    assert run.perturbed_file(phase("pgd:steps=7"), 0.3, "a", ".npy") == (
        "images/pgd_steps-7/linf-0.3/a.npy"
    )
    assert run.perturbed_file(phase("cw", "l2"), None, "a.png", ".png") == "images/cw/l2/a.png.png"
    assert run.clean_file("cat/a.jpg") == "images/clean/cat/a.jpg.png"
    assert not Path(run.clean_file("../../etc/passwd")).is_absolute()
    assert ".." not in Path(run.clean_file("../../etc/passwd")).parts
    assert attack_folder("a:b=1/2,c=3") == "a_b-1_2_c-3"

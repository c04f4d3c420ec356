"""Progress belongs on standard error, and follows NO_COLOR, FORCE_COLOR and the terminal."""

import io
from typing import Any

import pytest

from advcli.cli.options import use_color
from advcli.cli.progress import Bar, Plain, Silent, make_watcher


def go(watcher: Any) -> None:
    with watcher:
        watcher.note("a\x1b[2Jb")
        watcher.begin("pgd", 40)
        watcher.advance(10, 30)
        watcher.advance(40, 3)
        watcher.end()


def test_lines_for_a_log(capsys: pytest.CaptureFixture[str]) -> None:
    go(make_watcher("auto", "auto", quiet=False))
    captured = capsys.readouterr()
    assert captured.out == ""
    note, line = captured.err.splitlines()
    assert note == r"note: a\x1b[2Jb"
    assert line.startswith("pgd: 40/40 images, 3 robust so far, ")


def test_a_log_hears_of_a_long_pass(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    watcher = Plain()
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    watcher.begin("pgd", 100)
    for done in range(1, 100):
        now[0] += 1
        watcher.advance(done, None)
    spoken = capsys.readouterr().err.splitlines()
    assert len(spoken) == 9
    assert spoken[0] == "pgd: 11/100 images, 11.0 s, about 89 s left"


def test_a_bar(capsys: pytest.CaptureFixture[str]) -> None:
    go(make_watcher("bar", "never", quiet=False))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "3 robust so far" in captured.err
    assert "40/40" in captured.err
    assert isinstance(make_watcher("none", "auto", quiet=False), Silent)


def test_quiet_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    go(make_watcher("bar", "always", quiet=True))
    assert capsys.readouterr().err == ""


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("choice", "env", "screen", "expected"),
    [
        ("auto", {}, True, True),
        ("auto", {}, False, False),
        ("auto", {"NO_COLOR": "1"}, True, False),
        ("auto", {"NO_COLOR": ""}, True, True),
        ("auto", {"FORCE_COLOR": "1"}, False, True),
        ("auto", {"FORCE_COLOR": "1", "NO_COLOR": "1"}, True, False),
        ("auto", {"TERM": "dumb"}, True, False),
        ("always", {"NO_COLOR": "1"}, False, True),
        ("never", {"FORCE_COLOR": "1"}, True, False),
    ],
)
def test_colour(
    choice: str,
    env: dict[str, str],
    screen: bool,
    expected: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert use_color(choice, Screen() if screen else io.StringIO()) is expected
    assert Bar.__doc__

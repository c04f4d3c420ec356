"""Whatever ends a command, its exit code says what it means."""

import signal
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest

from advcli.cli.exits import Terminated, run
from advcli.errors import NoVerdictError, UsageError
from advcli.reports import catalogue

from .support import PYTHON, environment


@pytest.fixture(autouse=True)
def _own_signals() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


class ResourceExhaustedError(Exception):
    """As TensorFlow calls it."""


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (RuntimeError("boom\nsecond line"), 3, "error: RuntimeError: boom second line"),
        (MemoryError(), 3, "error: out of memory"),
        (ResourceExhaustedError("OOM when allocating"), 3, "error: out of memory"),
        (NoVerdictError("disk full", "make room"), 3, "error: disk full"),
        (UsageError("bad \x1b[2J", "good"), 2, r"error: bad \x1b[2J"),
        (click.UsageError("no such option"), 2, "error: no such option"),
        (SystemExit(1), 3, "ended the process"),
        (KeyboardInterrupt(), 130, ""),
        (Terminated(), 143, ""),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_no_exception_leads_to_exit_1(
    error: BaseException,
    code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(catalogue, "describe_all", fail)
    assert run(["attacks"]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert said in captured.err
    assert "Traceback" not in captured.err
    if code == 3:
        assert run(["attacks", "-v"]) == 3
        traced = "Traceback" in capsys.readouterr().err
        assert traced == (not isinstance(error, SystemExit))


def test_a_broken_installation_is_no_failed_gate() -> None:
    script = "import sys; sys.modules['click'] = None; from advcli.__main__ import main; main()"
    done = subprocess.run(
        [PYTHON, "-c", script], capture_output=True, text=True, env=environment(), check=False
    )
    assert done.returncode == 3
    assert "not installed completely" in done.stderr


def test_a_terminal_that_knows_no_unicode() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "advcli", "attacks", "cw"],
        capture_output=True,
        env=environment(PYTHONIOENCODING="ascii"),
        check=False,
    )
    assert done.returncode == 0
    assert done.stdout.isascii()

"""From whatever ends a command to its exit code, and two lines on standard error.

    0 finished   1 a gate failed   2 refused   3 no verdict   130 interrupted   143 terminated

Only a summary's own `exit_code` may be 1: no exception leads to it.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from types import FrameType

import click

from advcli.cli.options import origin_of
from advcli.errors import AdvcliError, NoVerdictError

__all__ = ["Terminated", "emit", "run"]

INTERRUPTED = 130
TERMINATED = 143
NO_VERDICT = 3
REFUSED = 2


class Terminated(BaseException):
    """SIGTERM arrived."""


def run(args: Sequence[str]) -> int:
    """Runs the command line and returns the exit code; prints every error itself."""
    _prepare_streams()
    with suppress(ValueError):  # not the main thread: an embedding program has its own signals
        signal.signal(signal.SIGTERM, _terminate)
    try:
        code = _invoke(list(args))
    except (KeyboardInterrupt, click.Abort):
        code = INTERRUPTED
    except Terminated:
        code = TERMINATED
    return _flushed(code)


def _invoke(args: list[str]) -> int:
    from advcli.cli.app import cli

    verbose = "-v" in args or "--verbose" in args
    try:
        result = cli.main(args, prog_name="advcli", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.Abort:  # what Click makes of Ctrl-C
        raise
    except click.ClickException as error:
        _complain(error.format_message() + _origin(error), _usage_hint(error))
        return REFUSED
    except AdvcliError as error:
        if verbose:
            _traceback()
        _complain(error.message, error.hint)
        return error.exit_code
    except BrokenPipeError:
        _silence(sys.stdout)
        return NO_VERDICT
    except SystemExit:  # not ours: code that the model brought along, or a library
        _complain("something that was run ended the process by itself", "no verdict was reached")
        return NO_VERDICT
    except Exception as error:  # noqa: BLE001 - the last line of defence: Python's own code is 1
        if isinstance(error, OSError) and _unwritable():  # Click's own printing; see `_flushed`
            return NO_VERDICT
        if verbose:
            _traceback()
        _complain(*_unexpected(error))
        return NO_VERDICT


def _unexpected(error: Exception) -> tuple[str, str]:
    name = type(error).__name__
    if isinstance(error, MemoryError) or name == "ResourceExhaustedError":
        return "out of memory", "use a smaller --batch-size, or --limit the number of images"
    text = " ".join(str(error).split()) or "no message"
    text = text if len(text) <= 300 else text[:299] + "…"
    hint = "this is a defect of advcli, or of what it runs on: -v shows where"
    return f"{name}: {text}", hint


def _origin(error: click.ClickException) -> str:
    """Which variable, or key of a file, a refused value came from."""
    origin = origin_of(getattr(error, "param", None), getattr(error, "ctx", None))
    if origin is None:
        return ""
    known = origin.startswith("variable ")
    return f" It was set by the {origin}." if known else f" It was set in {origin}."


def _usage_hint(error: click.ClickException) -> str:
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "advcli"
    return f"`{path} --help` lists the options"


def _complain(message: str, hint: str) -> None:
    lines = [f"error: {_one_line(message)}"]
    if hint:
        lines.append(f"hint: {_one_line(hint)}")
    with suppress(OSError, ValueError):
        print("\n".join(lines), file=sys.stderr)


def _one_line(text: str) -> str:
    from advcli.images.text import printable

    return printable(" ".join(line.strip(" ") for line in text.split("\n") if line.strip()))


def _traceback() -> None:
    import traceback

    from advcli.images.text import printable

    for line in traceback.format_exc().splitlines():
        print(printable(line), file=sys.stderr)


def _terminate(signum: int, frame: FrameType | None) -> None:
    raise Terminated


def emit(text: str) -> None:
    """Writes a result to standard output; a reader that has gone away is no error."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        _silence(sys.stdout)
    except OSError as error:
        _silence(sys.stdout)
        raise _unwritten(error) from error


def _prepare_streams() -> None:
    """A name that the terminal's encoding lacks is shown escaped, not a crash.

    A closed standard stream gets its descriptor back, or the next file opened (the journal, say)
    would have it, and with it whatever a library prints. What is written to a closed standard
    output still fails; what is said on a closed standard error is lost.
    """
    if sys.stdin is None:
        sys.stdin = open(os.devnull)  # noqa: SIM115 - for as long as the process lives
    if sys.stdout is None:
        sys.stdout = open(os.open(os.devnull, os.O_RDONLY), "w")  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _unwritable() -> bool:
    try:
        sys.stdout.flush()
    except OSError:
        return True
    return False


def _flushed(code: int) -> int:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _silence(sys.stdout)
    except OSError as error:  # a full disk behind a redirection: the result is not there
        _silence(sys.stdout)
        unwritten = _unwritten(error)
        _complain(unwritten.message, unwritten.hint)
        return NO_VERDICT
    return code


def _unwritten(error: OSError) -> NoVerdictError:
    return NoVerdictError(
        f"the result could not be written to standard output: {error.strerror}",
        "make room where it was redirected to, and run again",
    )


def _silence(stream: object) -> None:
    """Points a closed pipe's descriptor elsewhere, so that Python's own last flush is quiet."""
    with suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())  # type: ignore[attr-defined]
        os.close(nowhere)

"""What a part of the fuzzing is: strategies for its inputs, and the one property of them all."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hypothesis.strategies import SearchStrategy

from advcli.errors import AdvcliError
from advcli.images.text import printable

LONGEST_MESSAGE = 1000


class Finding(AssertionError):
    """A refusal that no user should see."""


@dataclass(frozen=True)
class Part:
    """Inputs as bytes, so that each can be kept as a file, and what reads one in a folder.

    `run` may end or raise an `AdvcliError`; anything else, a warning too, is a finding.
    """

    name: str
    cases: SearchStrategy[bytes]
    run: Callable[[bytes, Path], object]


def outcome(part: Part, case: bytes, folder: Path) -> Literal["read", "refused"]:
    """Runs a case in an empty folder; whatever it raises is a finding."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            part.run(case, folder)
    except AdvcliError as error:
        check_refusal(error.message, error.hint)
        return "refused"
    return "read"


def check_refusal(message: str, hint: str) -> None:
    """One printable line of some length for each of the two."""
    for line in (message, hint):
        if not line or line != printable(line) or len(line) > LONGEST_MESSAGE:
            raise Finding(f"a refusal that is no printable line: {line[:300]!r}")

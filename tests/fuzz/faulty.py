"""A part that does all that no reader may: the long run has to notice each."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

from hypothesis import strategies as st

from advcli.errors import ModelError
from tests.fuzz.parts import Part

FAULTS = ("raises", "dies", "prints", "warns", "two lines", "no hint")


def read(case: bytes, folder: Path) -> None:
    fault = case.decode()
    if fault == "raises":
        raise KeyError(fault)
    if fault == "dies":
        os.kill(os.getpid(), 11)
    if fault == "prints":
        os.write(1, b"noise\n")
    if fault == "warns":
        warnings.warn("odd", stacklevel=1)
    raise ModelError("a\nb" if fault == "two lines" else "a", "" if fault == "no hint" else "b")


PART = Part("faulty", st.sampled_from([fault.encode() for fault in (*FAULTS, "fine")]), read)

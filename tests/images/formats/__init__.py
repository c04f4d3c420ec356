"""One case per row of FORMATS.md: how a file is made, and what must come out of it."""

from .base import Case, luma
from .photographs import PHOTOGRAPHS
from .refused import REFUSED
from .scans import SCANS

__all__ = ["CASES", "Case", "luma"]

CASES = (*PHOTOGRAPHS, *SCANS, *REFUSED)

"""One case per row of FORMATS.md: how a file is made, and what must come out of it."""

from .base import Case, luma
from .others import OTHERS
from .photographs import PHOTOGRAPHS
from .refused import REFUSED
from .tiffs import TIFFS

__all__ = ["CASES", "Case", "luma"]

CASES = (*PHOTOGRAPHS, *TIFFS, *OTHERS, *REFUSED)

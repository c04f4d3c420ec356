"""What a check of the model found, as data: the audit decides what it means for the verdict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["ok", "suspect", "note"]


@dataclass(frozen=True)
class Finding:
    """One check's result: `suspect` puts the robust figures in doubt, `note` only informs."""

    check: str
    verdict: Verdict
    detail: str

"""The summary as one JSON document, exactly as summary.json holds it."""

from __future__ import annotations

from typing import Any

from advcli.audit.journal import dumps

__all__ = ["render"]


def render(summary: dict[str, Any]) -> str:
    return dumps(summary, indent=2) + "\n"

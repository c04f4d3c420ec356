"""The page that GitHub Actions shows for a step: the file that `GITHUB_STEP_SUMMARY` names."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from advcli.images.text import printable

__all__ = ["append"]

LIMIT = 2**20  # bytes for one step; GitHub drops a longer page whole


def append(whole: Callable[[], str], short: Callable[[], str]) -> str:
    """Adds a report in Markdown to the page, the short one where the whole one does not fit.

    Returns why it could not be added, empty where it was, or where there is no such page: a run
    does not fail for it.
    """
    name = os.environ.get("GITHUB_STEP_SUMMARY")
    if not name:
        return ""
    try:
        path = Path(name)
        room = LIMIT - (path.stat().st_size if path.exists() else 0)
        for text in (whole, short):
            page = ("\n" + text()).encode()
            if len(page) <= room:
                with path.open("ab") as file:
                    file.write(page)
                return ""
        return "the report does not fit into GITHUB_STEP_SUMMARY, which has 1 MiB for a step"
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        return f"GITHUB_STEP_SUMMARY ({printable(name, 60)}) could not be written: {reason}"

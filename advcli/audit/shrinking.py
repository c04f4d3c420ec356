"""Memory that did not suffice in the middle of a run: said, and kept for who goes on with it."""

from __future__ import annotations

from typing import Any

from advcli.attacks.base import Attack
from advcli.audit.directory import RunDirectory
from advcli.audit.meter import Watcher
from advcli.audit.soundness import finding
from advcli.engine.run import Engine

__all__ = ["Shrinking"]


class Shrinking:
    """Told that the engine goes on with fewer rows: a finding, a note, and the batch size in
    run.json, at once, so that a resumed run has it too; there is also what it was before, which
    answered some images.
    """

    def __init__(
        self, engine: Engine, run: dict[str, Any], directory: RunDirectory, watcher: Watcher
    ) -> None:
        self._engine = engine
        self._run = run
        self._directory = directory
        self._watcher = watcher
        self._before = engine.batch_size

    def __call__(self, attack: Attack) -> None:
        rows = self._engine.batch_size
        detail = f"memory did not suffice in {attack.spec}: "
        if rows == self._before:
            detail += "one batch is computed at a time, with the same result"
        else:
            detail += (
                f"from there on {rows} images are computed at once, not {self._before}; of rare "
                "images the result depends on that"
            )
            self._run["shrunk_from"] = [*self._run.get("shrunk_from", ()), self._before]
        self._before = rows
        self._run["findings"].append(finding("memory", "note", detail))
        self._run["engine"]["batch_size"] = self._run["identity"]["batch_size"] = rows
        self._directory.write_run(self._run)
        self._watcher.note(detail)

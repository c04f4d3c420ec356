"""Every error that a user sees.

    AdvcliError              exit code 2: refused, nothing was written
    ├── UsageError           a command line, configuration or attack that cannot be met
    ├── ModelError           the model file: unreadable, unsafe, no image classifier
    ├── ImagesError          the folder or its labels: nothing to evaluate, contradictory
    ├── RunError             a run directory that cannot be used as asked
    └── NoVerdictError       exit code 3: the work began but no verdict can be given

Only ``advcli.cli`` turns them into messages and exit codes.
"""

from __future__ import annotations

from typing import ClassVar


class AdvcliError(Exception):
    """What went wrong in one line (`message`) and what to type or do next (`hint`)."""

    exit_code: ClassVar[int] = 2

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(AdvcliError):
    """An option, a configuration value or an attack specification that cannot be met."""


class ModelError(AdvcliError):
    """A model file that cannot, or must not, be loaded."""


class ImagesError(AdvcliError):
    """A folder of images, or its labels, that cannot be evaluated."""


class RunError(AdvcliError):
    """A run directory that cannot be used as asked."""


class NoVerdictError(AdvcliError):
    """The work began, but ended without figures that a verdict could rest on."""

    exit_code: ClassVar[int] = 3

"""FMN, DDN, PDPGD and σ-zero, all as adversarial-library has them (BSD 3-Clause, J. Rony).

`--authors` wants its repository, github.com/jeromerony/adversarial-library, as the folder
`adversarial-library`. What it imports for other purposes (pictures, plots, progress) need not be
there.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any
from unittest import mock

import numpy as np

from tests.benchmarks.references import Reference, Task

_ORDER = {"linf": float("inf"), "l2": 2.0, "l1": 1.0, "l0": 0.0}
_AUTHORS = "adversarial-library"


def _fmn(task: Task) -> np.ndarray:
    _stand_in()
    from adv_lib.attacks.fast_minimum_norm import fmn

    return _from(task, fmn, norm=_ORDER[task.norm], steps=100)


def _ddn(task: Task) -> np.ndarray:
    _stand_in()
    from adv_lib.attacks.decoupled_direction_norm import ddn

    return _from(task, ddn, steps=100)


def _pdpgd(task: Task) -> np.ndarray:
    _stand_in()
    from adv_lib.attacks.primal_dual_gradient_descent import pdpgd

    return _from(task, pdpgd, norm=_ORDER[task.norm], num_steps=500)


def _sigma_zero(task: Task) -> np.ndarray:
    _stand_in()
    from adv_lib.attacks.sigma_zero import sigma_zero

    return _from(task, sigma_zero, num_steps=500)


def _stand_in() -> None:
    """For what the library imports and no attack of these uses."""
    from packaging.version import Version

    version = ModuleType("distutils.version")
    version.LooseVersion = Version  # type: ignore[attr-defined]
    sys.modules["distutils.version"] = version
    for name in ("distutils", "torchvision", "tqdm", "visdom"):
        sys.modules.setdefault(name, mock.MagicMock())


def _from(task: Task, attack: Any, **settings: Any) -> np.ndarray:
    images, labels = task.torch_images()
    return task.from_torch(attack(task.torch_model(), images, labels, **settings))


def _row(norm: str, ours: str, name: str, run: Any) -> Reference:
    attack = ours.partition(":")[0]
    models = ("digits/cnn", "digits/robust", "signs/cnn")
    return Reference(attack, norm, ours, name, "torch", run, authors=_AUTHORS, models=models)


REFERENCES = (
    *(_row(norm, "fmn:steps=100", "adv_lib FMN", _fmn) for norm in ("linf", "l2", "l1", "l0")),
    _row("l2", "ddn:steps=100", "adv_lib DDN, 256 levels", _ddn),
    *(_row(norm, "pdpgd:steps=500", "adv_lib PDPGD", _pdpgd) for norm in ("l1", "linf", "l2")),
    _row("l0", "sigma-zero:steps=500", "adv_lib σ-zero", _sigma_zero),
)

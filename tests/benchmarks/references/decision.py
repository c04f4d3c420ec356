"""References of the decision-based attacks.

The authors' code runs on one image at a time, with an eye on every point that it asks about: what
it returns is the closest adversarial one within the box, after as many queries as advcli's attack
may take. A model is sent images: points outside the box (CGBA's code has some) are clipped to it.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.references import Reference, Task

_QUERIES = 1000
_ITERATED = {"l2": 935, "linf": 964}  # what five iterations of HopSkipJump take
_MODELS = ("digits/cnn", "digits/robust", "signs/cnn")


class _Spent(Exception):
    """The queries are used up."""


class _Watched:
    """The model that is attacked, for one image: counts queries, keeps the closest success."""

    def __init__(self, model: Any, task: Task, clean: Any, number: int, queries: int) -> None:
        self._model = model
        self._order = {"l2": 2.0, "linf": float("inf")}[task.norm]
        self.clean, self.label = clean, int(task.labels[number])
        self._target = None if task.targets is None else int(task.targets[number])
        self._left, self._distance = queries, float("inf")
        self.closest = self.clean

    def __call__(self, asked: Any) -> Any:
        """Logits; what equals the clean image costs nothing, all of us know its label."""
        import torch

        asked = asked.detach().clamp(0, 1)
        with torch.no_grad():
            z = self._model(asked)
            free = (asked - self.clean).flatten(1).abs().amax(1) == 0
            classes = z[~free].argmax(1).tolist()
            for point, found in zip(asked[~free], classes, strict=True):
                if self._left == 0:
                    raise _Spent
                self._left -= 1
                if self._met(found):
                    self._note(point)
        return z

    forward = __call__

    def predict(self, asked: np.ndarray) -> np.ndarray:
        """The same for NumPy, [N, H, W, C] or one image."""
        import torch

        batch = asked if asked.ndim == 4 else asked[None]
        points = torch.from_numpy(np.ascontiguousarray(batch.transpose(0, 3, 1, 2), np.float32))
        return np.asarray(self(points))

    def _met(self, found: int) -> bool:
        return found != self.label if self._target is None else found == self._target

    def _note(self, point: Any) -> None:
        import torch

        distance = float(torch.linalg.vector_norm(point - self.clean[0], self._order))
        if distance < self._distance:
            self._distance, self.closest = distance, point[None]


def _each(task: Task, queries: int, attack: Callable[[_Watched, Any], object]) -> np.ndarray:
    """`attack(model, an image of the target class or None)` on every image."""
    import torch

    np.random.seed(task.seed)
    images, _ = task.torch_images()
    # half a millisecond a call instead of several
    logits = task.torch_model()
    logits.network = task.model  # its weights are then no constants, which a trace refuses
    model = torch.jit.trace(logits, images[:1], check_trace=False)
    found = np.empty_like(task.x)
    for number in range(len(task.x)):
        watched = _Watched(model, task, images[number : number + 1], number, queries)
        start = None
        if task.starts is not None:
            start = torch.from_numpy(task.starts[number : number + 1]).permute(0, 3, 1, 2)
        with contextlib.suppress(_Spent), contextlib.redirect_stdout(None):
            attack(watched, start)
        found[number] = task.from_torch(watched.closest)[0]
    task.asked = queries * len(task.x)
    return found


def _alone(authors: str) -> None:
    """Several authors have a module `utils`: only that of these is to be found."""
    for name in [n for n in sys.modules if n == "utils" or n.startswith("utils.")]:
        del sys.modules[name]
    home = next(Path(p) for p in sys.path if Path(p).name == authors)
    others = [p for p in sys.path if Path(p).parent == home.parent and Path(p) != home]
    sys.path[:] = [p for p in sys.path if p not in others]


def _cgba(task: Task) -> np.ndarray:
    """Its low-frequency noise and its reports want three channels; here as many as the images."""
    import torch
    from scipy.fftpack import idct

    _alone("CGBA")
    from proposed_attack import Proposed_attack

    class Attack(Proposed_attack):
        def find_random(self, x, n):
            side = int(x.shape[-1] / self.dim_reduc_factor)
            coefficients = np.zeros((n, *x.shape[1:]), np.float32)
            coefficients[:, :, :side, :side] = torch.randn(n, x.shape[1], side, side).numpy()
            rows = idct(coefficients, axis=3, norm="ortho")
            return torch.from_numpy(idct(rows, axis=2, norm="ortho"))

        def inv_tf(self, x, mean, std):
            return x

    def run(model: _Watched, start: Any) -> None:
        channels = model.clean.shape[1]
        low, high = torch.zeros_like(model.clean), torch.ones_like(model.clean)
        method = "CGBA" if start is None else "CGBA_H"
        asked = (model, model.clean, [0.0] * channels, [1.0] * channels, low, high)
        Attack(*asked, start, attack_method=method, verbose_control="No").Attack()

    return _each(task, _QUERIES, run)


def _surfree(task: Task) -> np.ndarray:
    """As its `config_example.json` has the basis, its defaults else, without rounding to levels."""
    import torch

    _alone("SurFree")
    from surfree import SurFree

    def run(model: _Watched, start: Any) -> None:
        settings = {"steps": 10_000, "max_queries": 1_000_000, "quantification": False}
        basis = {"basis_type": "dct", "dct_type": "full", "frequence_range": (0, 0.5)}
        attack = SurFree(**settings)
        attack(model, model.clean, torch.tensor([model.label]), basis_params=basis)

    return _each(task, _QUERIES, run)


def _hopskipjump(task: Task) -> np.ndarray:
    from hsja import hsja

    def run(model: _Watched, start: Any) -> None:
        sample = Task.from_torch(model.clean)[0]
        hsja(model, sample, constraint=task.norm, verbose=False)

    return _each(task, _ITERATED[task.norm], run)


def _boundary(task: Task) -> np.ndarray:
    """Its start takes 52 queries or more, a tenth of its steps two."""
    import foolbox
    import tensorflow as tf

    tf.random.set_seed(task.seed)
    model = foolbox.TensorFlowModel(task.tf_model(), bounds=(0, 1))
    attack = foolbox.attacks.BoundaryAttack(steps=int((_QUERIES - 52) / 1.1))
    found = attack.run(model, tf.constant(task.x), tf.constant(task.labels))
    return np.asarray(found)


REFERENCES = (
    Reference(
        "cgba",
        "l2",
        f"cgba:queries={_QUERIES}",
        "Farhamdur/CGBA",
        "torch",
        _cgba,
        authors="CGBA",
        models=_MODELS,
    ),
    Reference(
        "cgba",
        "l2",
        f"cgba:queries={_QUERIES}",
        "Farhamdur/CGBA, CGBA-H targeted",
        "torch",
        _cgba,
        authors="CGBA",
        targeted=True,
        models=_MODELS,
    ),
    Reference(
        "surfree",
        "l2",
        f"surfree:queries={_QUERIES}",
        "t-maho/SurFree",
        "torch",
        _surfree,
        authors="SurFree",
        models=_MODELS,
    ),
    *(
        Reference(
            "hopskipjump",
            norm,
            "hopskipjump:iterations=5",
            "Jianbo-Lab/HSJA",
            "torch",
            _hopskipjump,
            authors="HSJA",
            models=_MODELS,
        )
        for norm in ("l2", "linf")
    ),
    Reference(
        "boundary",
        "l2",
        f"boundary:queries={_QUERIES}",
        "Foolbox BoundaryAttack",
        "tf",
        _boundary,
        "foolbox",
        calls=_QUERIES,
        models=_MODELS,
    ),
)

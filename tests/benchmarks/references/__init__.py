"""What advcli is measured against: one file per family, each with a tuple `REFERENCES`.

A file here is imported by the interpreter of its references too, which need not have advcli,
TensorFlow or torch: libraries are imported inside the functions.

    def _apgd(task: Task) -> np.ndarray:
        attack = library.APGD(task.torch_model(), eps=task.eps, seed=task.seed)
        return task.from_torch(attack(*task.torch_images()))

    REFERENCES = (
        Reference("apgd", "linf", "apgd", "library's APGD", "torch", _apgd, package="library"),
    )

`run` returns its images, float32 [N, H, W, C] in [0, 1], one for every image of the task, and
judges nothing. What an image costs it in model calls is counted where the model is
`task.torch_model()`; elsewhere `calls` states it.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np


@dataclass
class Task:
    """One attack on one model, on its reference's side. All images are classified correctly."""

    model: Any  # Keras, [N, H, W, C] as the file wants its pixels -> logits
    scale: float  # pixels in [0, 1] × scale are what the file wants
    x: np.ndarray  # float32 [N, H, W, C] in [0, 1]
    labels: np.ndarray  # int64 [N]
    norm: str
    eps: float  # inf for a minimum-norm attack
    seed: int
    targets: np.ndarray | None = None  # int64 [N], where the attack is targeted
    starts: np.ndarray | None = None  # float32 [N, H, W, C], an image of each target class
    asked: int = field(default=0, init=False)  # rows of all forward passes of `torch_model()`

    @property
    def classes(self) -> int:
        return int(self.model.output_shape[-1])

    def torch_model(self) -> Any:
        """A torch module, [N, C, H, W] in [0, 1] -> logits, that counts the rows it is asked."""
        import torch

        task = self

        class Logits(torch.nn.Module):
            def forward(self, x: Any) -> Any:
                task.asked += len(x)
                return task.model(x.permute(0, 2, 3, 1) * task.scale, training=False)

        return Logits().eval()

    def torch_images(self) -> tuple[Any, Any]:
        """(images [N, C, H, W], labels) as torch tensors; torch's seed is set to the task's."""
        import torch

        torch.manual_seed(self.seed)
        return torch.from_numpy(self.x).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(
            self.labels
        )

    @staticmethod
    def from_torch(images: Any) -> np.ndarray:
        """[N, C, H, W] -> what `run` returns."""
        return np.ascontiguousarray(images.detach().cpu().numpy().transpose(0, 2, 3, 1))

    def tf_model(self) -> Any:
        """A Keras model of the TensorFlow backend, [N, H, W, C] in [0, 1] -> logits."""
        import keras

        if self.scale == 1.0:
            return self.model
        inputs = keras.Input(self.x.shape[1:])
        return keras.Model(inputs, self.model(inputs * self.scale))


@dataclass(frozen=True)
class Reference:
    """One row of the table: a reference, and the advcli attack at as many model calls."""

    attack: str  # what --attack selects
    norm: str
    ours: str  # advcli's spec
    name: str
    environment: Literal["tf", "torch"]
    run: Callable[[Task], np.ndarray]
    package: str = ""  # the distribution that it needs, whose version is printed
    authors: str = ""  # or the folder below --authors that it needs, put on sys.path
    calls: float | None = None  # model calls per image, where they are not counted
    targeted: bool = False
    models: tuple[str, ...] = ("digits/cnn", "digits/robust")


def references() -> tuple[Reference, ...]:
    """All of them, in the order of their files."""
    found: list[Reference] = []
    for module in sorted(pkgutil.iter_modules([str(Path(__file__).parent)]), key=lambda m: m.name):
        found += importlib.import_module(f"{__name__}.{module.name}").REFERENCES
    return tuple(found)

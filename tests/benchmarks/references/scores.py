"""References of the score-based attacks."""

from __future__ import annotations

import contextlib
import math
import sys
from unittest import mock

import numpy as np

from tests.benchmarks.references import Reference, Task

_NORMS = {"linf": "Linf", "l2": "L2", "l1": "L1"}
_QUERIES = 1000
_SAMPLES, _STEPS = 128, 16  # of SPSA: it asks twice `spsa_samples` a step


def _square(task: Task) -> np.ndarray:
    """As AutoAttack runs it, with fewer queries; the first one is the start."""
    from autoattack.square import SquareAttack

    x, y = task.torch_images()
    attack = SquareAttack(
        task.torch_model(),
        norm=_NORMS[task.norm],
        n_queries=_QUERIES - 1,
        eps=task.eps,
        seed=task.seed,
        resc_schedule=False,
        device="cpu",
    )
    return task.from_torch(attack.perturb(x, y))


def _square_art(task: Task) -> np.ndarray:
    from art.attacks.evasion import SquareAttack
    from art.estimators.classification import TensorFlowV2Classifier

    np.random.seed(task.seed)
    classifier = TensorFlowV2Classifier(
        task.tf_model(), task.classes, task.x.shape[1:], clip_values=(0.0, 1.0)
    )
    attack = SquareAttack(
        classifier,
        norm={"linf": np.inf, "l2": 2, "l1": 1}[task.norm],
        max_iter=_QUERIES,
        eps=task.eps,
        verbose=False,
    )
    return np.asarray(attack.generate(task.x, task.labels))


def _sparse_rs(task: Task) -> np.ndarray:
    sys.modules.pop("utils", None)  # other authors have one too
    from rs_attacks import RSAttack

    x, y = task.torch_images()
    attack = RSAttack(
        task.torch_model(),
        n_queries=_QUERIES,
        eps=int(task.eps),
        p_init=0.3,
        seed=task.seed,
        verbose=False,
        device="cpu",
    )
    return task.from_torch(attack.perturb(x, y)[1])


def _spsa(task: Task) -> np.ndarray:
    from cleverhans.torch.attacks.spsa import spsa

    x, y = task.torch_images()
    settings = {"nb_iter": _STEPS, "spsa_samples": _SAMPLES // 2, "sanity_checks": False}
    norm = {"linf": np.inf, "l2": 2}[task.norm]
    found = spsa(
        task.torch_model(), x, task.eps, norm=norm, y=y, clip_min=0, clip_max=1, **settings
    )
    return task.from_torch(found)


def _nes(task: Task) -> np.ndarray:
    """PGD on estimated gradients: one image at a time, for its estimate is of a batch's sum."""
    import foolbox
    import tensorflow as tf
    from foolbox.gradient_estimators import es_gradient_estimator

    tf.random.set_seed(task.seed)
    model = foolbox.TensorFlowModel(tf.function(task.tf_model()), bounds=(0, 1))
    attack = {"linf": foolbox.attacks.LinfPGD, "l2": foolbox.attacks.L2PGD}[task.norm]
    estimated = es_gradient_estimator(attack, samples=48, sigma=0.01, bounds=(0, 1), clip=True)
    settings = {"steps": 20, "rel_stepsize": 0.1, "random_start": False}
    found = []
    for i in range(len(task.x)):
        image, label = tf.constant(task.x[i : i + 1]), tf.constant(task.labels[i : i + 1])
        found.append(estimated(**settings).run(model, image, label, epsilon=task.eps).numpy())
    return np.concatenate(found)


def _simba(task: Task) -> np.ndarray:
    """The authors' loop for one image; the first image that succeeds within eps is returned."""
    import torch

    sys.modules.pop("utils", None)  # other authors have one too
    with mock.patch.dict(sys.modules, {"torchvision": mock.MagicMock()}):
        sys.modules["torchvision.transforms"] = sys.modules["torchvision"].transforms
        from simba import SimBA

    x, y = task.torch_images()
    model = task.torch_model()
    found = x.clone()

    class Stop(Exception):
        pass

    class Watched(SimBA):
        """Its softmax of the asked class, on the processor, with an eye on what is asked."""

        def get_probs(self, asked, label):
            z = self.model(asked)
            if z.argmax(1).item() != label.item() and torch.norm(asked - clean) <= task.eps:
                self.success = asked[0]
                raise Stop
            self.queries += 1
            if self.queries >= _QUERIES:
                raise Stop
            return torch.softmax(z, 1)[0, label]

    with torch.no_grad():
        for i in range(len(x)):
            clean = x[i : i + 1]
            attack = Watched(model, "", x.shape[-1])
            attack.queries, attack.success = 0, clean[0]
            with contextlib.suppress(Stop), contextlib.redirect_stdout(None):
                attack.simba_single(x[i], y[i : i + 1], num_iters=x[i].numel())
            found[i] = attack.success
    return task.from_torch(found)


def _one_pixel(task: Task) -> np.ndarray:
    """Its differential evolution is SciPy's; a population of 64, 15 generations."""
    import torchattacks

    x, y = task.torch_images()
    np.random.seed(task.seed)
    genes = int(task.eps) * (2 + x.shape[1])
    size = genes * max(1, math.ceil(64 / genes))
    attack = torchattacks.OnePixel(
        task.torch_model(), pixels=int(task.eps), steps=_QUERIES // size, popsize=size
    )
    return task.from_torch(attack(x, y))


REFERENCES = (
    *(
        Reference(
            "square",
            norm,
            f"square:steps={_QUERIES}",
            "fra31/auto-attack Square",
            "torch",
            _square,
            authors="auto-attack",
            models=("digits/cnn", "digits/robust", "signs/cnn"),
        )
        for norm in ("linf", "l2", "l1")
    ),
    *(
        Reference(
            "square",
            norm,
            f"square:steps={_QUERIES},rescale-schedule=true",
            "ART SquareAttack",
            "tf",
            _square_art,
            "adversarial-robustness-toolbox",
            calls=_QUERIES,
        )
        for norm in ("linf", "l2")
    ),
    Reference(
        "sparse-rs",
        "l0",
        f"sparse-rs:steps={_QUERIES}",
        "fra31/sparse-rs",
        "torch",
        _sparse_rs,
        authors="sparse-rs",
        models=("digits/cnn", "digits/robust", "signs/cnn"),
    ),
    *(
        Reference(
            "spsa",
            norm,
            f"spsa:steps={_STEPS},samples={_SAMPLES}",
            "CleverHans SPSA",
            "torch",
            _spsa,
            authors="cleverhans",
        )
        for norm in ("linf", "l2")
    ),
    *(
        Reference(
            "nes",
            norm,
            "nes:steps=20",
            "Foolbox PGD, ES gradients",
            "tf",
            _nes,
            "foolbox",
            calls=20 * 49,
        )
        for norm in ("linf", "l2")
    ),
    Reference(
        "simba",
        "l2",
        f"simba:steps={_QUERIES}",
        "cg563/simple-blackbox-attack",
        "torch",
        _simba,
        authors="simple-blackbox-attack",
    ),
    Reference(
        "one-pixel",
        "l0",
        "one-pixel:population=64,generations=15",
        "torchattacks OnePixel",
        "torch",
        _one_pixel,
        "torchattacks",
    ),
)

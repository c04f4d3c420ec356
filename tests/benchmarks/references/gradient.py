"""References of the gradient attacks with a budget."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from tests.benchmarks.references import Reference, Task

_NORMS = {"linf": "Linf", "l2": "L2", "l1": "L1"}


def _pgd_foolbox(task: Task) -> np.ndarray:
    """Its defaults: 40 steps of eps/30 (L2: 50 of eps/40) from a random start."""
    import foolbox
    import tensorflow as tf

    tf.random.set_seed(task.seed)
    model = foolbox.TensorFlowModel(task.tf_model(), bounds=(0, 1))
    attack = {"linf": foolbox.attacks.LinfPGD, "l2": foolbox.attacks.L2PGD}[task.norm]()
    x, y = tf.constant(task.x), tf.constant(task.labels)
    return attack(model, x, y, epsilons=task.eps)[1].numpy()


def _apgd(loss: str):
    def run(task: Task) -> np.ndarray:
        from autoattack.autopgd_base import APGDAttack, APGDAttack_targeted

        settings = {
            "norm": _NORMS[task.norm],
            "eps": task.eps,
            "seed": task.seed,
            "use_largereps": task.norm == "l1",
            "device": "cpu",
        }
        x, y = task.torch_images()
        if loss == "t":
            targets = min(5 if task.norm == "l1" else 9, task.classes - 1)
            attack = APGDAttack_targeted(task.torch_model(), n_target_classes=targets, **settings)
        else:
            attack = APGDAttack(task.torch_model(), loss=loss, **settings)
        return task.from_torch(attack.perturb(x, y))

    return run


def _pma(task: Task) -> np.ndarray:
    """Two runs of 100 steps, of which the second begins with the other term of the margin."""
    # beside it stands more than the attack, with requirements of its own
    sys.path += [str(place) for place in (Path(p, "attacks") for p in sys.path) if place.is_dir()]
    from MD import MDAttack

    attack = MDAttack(
        task.torch_model(),
        epsilon=task.eps,
        num_steps=100,
        num_classes=task.classes,
        loss_fn="PMargin",
    )
    return task.from_torch(attack.perturb(*task.torch_images())[0])


REFERENCES = (
    Reference("pgd", "linf", "pgd", "Foolbox LinfPGD", "tf", _pgd_foolbox, "foolbox", calls=40),
    Reference(
        "pgd", "l2", "pgd:steps=50", "Foolbox L2PGD", "tf", _pgd_foolbox, "foolbox", calls=50
    ),
    *(
        Reference(
            attack,
            norm,
            ours,
            f"fra31/auto-attack APGD-{loss.upper()}",
            "torch",
            _apgd(loss),
            authors="auto-attack",
        )
        for loss, attack, ours in (
            ("ce", "apgd", "apgd"),
            ("dlr", "apgd", "apgd:loss=dlr"),
            ("t", "apgd-t", "apgd-t"),
        )
        for norm in ("linf", "l2", "l1")
    ),
    Reference(
        "pma",
        "linf",
        "pma",
        "xieyong0/PMA",
        "torch",
        _pma,
        authors="PMA",
        models=("digits/cnn", "digits/robust", "signs/cnn"),
    ),
)

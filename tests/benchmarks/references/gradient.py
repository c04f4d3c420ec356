"""References of the gradient attacks with a budget."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import numpy as np

from tests.benchmarks.references import Reference, Task

_NORMS = {"linf": "Linf", "l2": "L2", "l1": "L1"}


def _foolbox(name: str):
    """At its defaults; PGD: 40 steps of eps/30 (L2: 50 of eps/40) from a random start."""

    def run(task: Task) -> np.ndarray:
        import foolbox
        import tensorflow as tf

        tf.random.set_seed(task.seed)
        model = foolbox.TensorFlowModel(tf.function(task.tf_model()), bounds=(0, 1))
        attack = getattr(foolbox.attacks, name)()
        x, y = tf.constant(task.x), tf.constant(task.labels)
        return attack(model, x, y, epsilons=task.eps)[1].numpy()

    return run


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


def _malt(task: Task) -> np.ndarray:
    """As the authors' demo runs it: adv_lib's targeted APGD at the 9 nearest of 100 classes."""
    import torch

    library = Path(next(p for p in sys.path if Path(p).name == "MALT")).parent
    library /= "adversarial-library"
    sys.path.append(str(library))
    # the package imports all of its attacks, some of which need more than torch
    bare = ModuleType("adv_lib.attacks")
    bare.__path__ = [str(library / "adv_lib" / "attacks")]
    sys.modules.setdefault(bare.__name__, bare)
    from adv_lib.attacks.auto_pgd import apgd
    from MALT_attack import MALTAttack

    if not torch.cuda.is_available():  # their code asks for it in passing
        torch.Tensor.cuda = lambda tensor, *_: tensor
    order = {"linf": float("inf"), "l2": 2}[task.norm]

    def ascent(model, x, target):
        return apgd(model, x, target, eps=task.eps, norm=order, targeted=True)

    x, y = task.torch_images()
    found, _ = MALTAttack(ascent, k=9, norm=order, testk=100).test_w_data(
        task.torch_model(), x, y, batch_size=len(x)
    )
    return task.from_torch(found)


def _momentum(name: str, **settings: float):
    """torchattacks' form of it; all of them with the published step eps/10 and momentum 1."""

    def run(task: Task) -> np.ndarray:
        import torchattacks

        x, y = task.torch_images()
        attack = getattr(torchattacks, name)(
            task.torch_model(), eps=task.eps, alpha=task.eps / 10, steps=10, decay=1.0, **settings
        )
        return task.from_torch(attack(x, y))

    return run


REFERENCES = (
    *(
        Reference(
            ours.split(":")[0],
            norm,
            ours,
            f"Foolbox {name}",
            "tf",
            _foolbox(name),
            "foolbox",
            calls=calls,
        )
        for norm, ours, name, calls in (
            ("linf", "fgsm", "LinfFastGradientAttack", 1),
            ("l2", "fgm", "L2FastGradientAttack", 1),
            ("linf", "bim:scouts=0", "LinfBasicIterativeAttack", 10),
            ("l2", "bim:scouts=0", "L2BasicIterativeAttack", 10),
            ("linf", "pgd", "LinfPGD", 40),
            ("l2", "pgd:steps=50", "L2PGD", 50),
        )
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
            ("ce", "apgd", "apgd:scouts=0"),
            ("dlr", "apgd", "apgd:loss=dlr,scouts=0"),
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
    *(
        Reference(
            "malt",
            norm,
            "malt",
            "OdeliaMel/MALT",
            "torch",
            _malt,
            authors="MALT",
            models=("digits/cnn", "digits/robust", "signs/cnn"),
        )
        for norm in ("linf", "l2")
    ),
    *(
        Reference(
            "mifgsm",
            "linf",
            ours,
            f"torchattacks {name}",
            "torch",
            _momentum(name, **settings),
            package="torchattacks",
            models=("digits/cnn", "digits/robust", "signs/cnn"),
        )
        for name, ours, settings in (
            ("MIFGSM", "mifgsm:scouts=0", {}),
            ("NIFGSM", "mifgsm:nesterov=true,scouts=0", {}),
            ("DIFGSM", "mifgsm:input-diversity=0.5,scouts=0", {"diversity_prob": 0.5}),
            ("SINIFGSM", "mifgsm:nesterov=true,scale=5,scouts=0", {"m": 5}),
        )
    ),
)

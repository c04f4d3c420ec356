"""References of FAB, DeepFool, EAD and the L∞ form of C&W: minimum-norm attacks."""

from __future__ import annotations

import numpy as np

from tests.benchmarks.references import Reference, Task

_NORMS = {"linf": "Linf", "l2": "L2", "l1": "L1"}


def _fab(targeted: bool):
    def run(task: Task) -> np.ndarray:
        """One run of 100 iterations; targeted: towards each of 9 classes, the closest kept."""
        from autoattack.fab_pt import FABAttack_PT

        model = task.torch_model()
        x, y = task.torch_images()
        attack = FABAttack_PT(model, _NORMS[task.norm], device="cpu", targeted=targeted)
        if not targeted:
            return task.from_torch(attack.attack_single_run(x, y))
        best, least = x.clone(), np.full(len(task.x), np.inf)
        for rank in range(2, min(9, task.classes - 1) + 2):
            attack.target_class = rank
            found = attack.attack_single_run(x, y, is_targeted=True)
            delta = (found - x).flatten(1)
            order = {"linf": float("inf"), "l2": 2, "l1": 1}[task.norm]
            away = delta.norm(order, dim=1).numpy()
            nearer = (away > 0) & (away < least)
            best[nearer], least[nearer] = found[nearer], away[nearer]
        return task.from_torch(best)

    return run


def _foolbox(name: str, **settings: object):
    def run(task: Task) -> np.ndarray:
        import foolbox
        import tensorflow as tf

        model = foolbox.TensorFlowModel(tf.function(task.tf_model()), bounds=(0, 1))
        attack = getattr(foolbox.attacks, name)(**settings)
        x, y = tf.constant(task.x), tf.constant(task.labels)
        return attack(model, x, y, epsilons=None)[1].numpy()

    return run


def _cw_linf(task: Task) -> np.ndarray:
    """ART's, with ten times its default iterations: at its default it often fails."""
    import tensorflow as tf
    from art.attacks.evasion import CarliniLInfMethod
    from art.estimators.classification import TensorFlowV2Classifier

    classifier = TensorFlowV2Classifier(
        tf.function(task.tf_model()),
        nb_classes=task.classes,
        input_shape=task.x.shape[1:],
        loss_object=tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        clip_values=(0, 1),
    )
    attack = CarliniLInfMethod(classifier, max_iter=100, verbose=False)
    return attack.generate(task.x, tf.one_hot(task.labels, task.classes).numpy())


_MODELS = ("digits/cnn", "digits/robust", "signs/cnn")

REFERENCES = (
    *(
        Reference(
            name,
            norm,
            name if name == "fab-t" else "fab:classes=11",
            f"fra31/auto-attack {name.upper()}",
            "torch",
            _fab(name == "fab-t"),
            authors="auto-attack",
            models=_MODELS,
        )
        for name in ("fab", "fab-t")
        for norm in ("linf", "l2", "l1")
    ),
    *(
        Reference(
            "deepfool",
            norm,
            "deepfool",
            f"Foolbox {name}",
            "tf",
            _foolbox(name),
            "foolbox",
            models=_MODELS,
        )
        for norm, name in (("linf", "LinfDeepFoolAttack"), ("l2", "L2DeepFoolAttack"))
    ),
    Reference(
        "ead",
        "l1",
        "ead",
        "Foolbox EADAttack, L1 rule, 1000 steps",
        "tf",
        _foolbox("EADAttack", steps=1000, decision_rule="L1"),
        "foolbox",
        calls=18_000,
        models=_MODELS,
    ),
    Reference(
        "cw",
        "l2",
        "cw",
        "Foolbox L2CarliniWagnerAttack, 9 × 1000 steps",
        "tf",
        _foolbox("L2CarliniWagnerAttack", binary_search_steps=9, steps=1000),
        "foolbox",
        calls=9000,
        models=_MODELS,
    ),
    Reference(
        "cw",
        "linf",
        "cw",
        "ART CarliniLInfMethod, 100 iterations",
        "tf",
        _cw_linf,
        "adversarial-robustness-toolbox",
        models=_MODELS,
    ),
)

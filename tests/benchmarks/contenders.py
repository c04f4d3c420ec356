"""Who takes part: advcli's engine, plain compiled loops, and the libraries that are installed.

Every contender attacks the same images with the same eps and number of steps from a random start,
and returns its images; it judges nothing.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import tensorflow as tf

from advcli.attacks.registry import attack_class, parse_spec
from tests.benchmarks.cases import Opened


@dataclass(frozen=True)
class Problem:
    """What is attacked: a case, and how."""

    opened: Opened
    logits_model: Any  # Keras, float32 [N, H, W, C] in [0, 1] -> logits
    steps: int
    seed: int

    @property
    def x(self) -> np.ndarray:
        """Float32 [N, H, W, C] in [0, 1], all classified correctly."""
        return self.opened.x

    @property
    def labels(self) -> np.ndarray:
        return self.opened.labels

    @property
    def eps(self) -> float:
        return self.opened.case.eps

    @property
    def step(self) -> float:
        """The published step length, for every contender that takes a constant one."""
        return 2.5 * self.eps / self.steps


@dataclass(frozen=True)
class Answer:
    """The images of one run, float32 [N, H, W, C]; model calls per image where they are counted."""

    images: np.ndarray
    forwards: float | None = None
    gradients: float | None = None


@dataclass(frozen=True)
class Contender:
    """One row of the table. `prepare` is called once per problem and returns what is timed."""

    name: str
    settings: str
    prepare: Callable[[Problem], Callable[[], Answer]]
    package: str = ""  # the distribution that it needs
    module: str = ""
    main: bool = True  # takes part in a brief comparison

    def absence(self) -> str:
        """Why it cannot take part here; empty if it can."""
        if not self.package:
            return ""
        try:
            version(self.package)
        except PackageNotFoundError:
            return "not installed"
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                importlib.import_module(self.module)
        except (ImportError, AttributeError, TypeError) as error:
            return f"cannot be imported: {str(error).strip().splitlines()[0]}"
        return ""


# --- advcli ----------------------------------------------------------------------------------


def _advcli(spec: str, pixels: str) -> Callable[[Problem], Callable[[], Answer]]:
    def prepare(problem: Problem) -> Callable[[], Answer]:
        engine = problem.opened.engine(pixels, problem.seed)
        attack = parse_spec(
            spec.format(steps=problem.steps, share=2.5 / problem.steps), "linf"
        ).attack
        subjects = problem.opened.subjects()

        def run() -> Answer:
            images = np.empty(problem.x.shape, np.float32)
            forwards = gradients = 0
            for outcome in engine.run(attack, "linf", subjects):
                scale = 255 if outcome.point.dtype == np.uint8 else 1
                images[int(outcome.key)] = outcome.point.astype(np.float32) / np.float32(scale)
                forwards += outcome.forwards
                gradients += outcome.gradients
            return Answer(images, forwards / len(images), gradients / len(images))

        return run

    return prepare


# --- plain compiled loops --------------------------------------------------------------------


def _step(problem: Problem) -> Callable[..., Any]:
    def step(x: Any, y: Any, low: Any, high: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(x)
            z = problem.logits_model(x, training=False)
            ce = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=z)
        return tf.clip_by_value(x + problem.step * tf.sign(tape.gradient(ce, x)), low, high)

    return step


def _random_start(problem: Problem, x0: Any, low: Any, high: Any) -> Any:
    noise = tf.random.stateless_uniform(
        x0.shape, (problem.seed, 0), -problem.eps, problem.eps, tf.float32
    )
    return tf.clip_by_value(x0 + noise, low, high)


def _plain(*, loop_in_graph: bool) -> Callable[[Problem], Callable[[], Answer]]:
    """The whole batch at once, nothing judged on the way."""

    def prepare(problem: Problem) -> Callable[[], Answer]:
        step = _step(problem)
        count = problem.steps
        calls = float(count)

        def whole(x0: Any, y: Any) -> Any:
            low, high = tf.maximum(x0 - problem.eps, 0.0), tf.minimum(x0 + problem.eps, 1.0)
            x = _random_start(problem, x0, low, high)
            return tf.while_loop(
                lambda n, _: n < count, lambda n, x: (n + 1, step(x, y, low, high)), (0, x)
            )[1]

        compiled_whole = tf.function(whole, autograph=False)
        compiled_step = tf.function(step, autograph=False)
        x0, y = tf.constant(problem.x), tf.constant(problem.labels)

        def run_whole() -> Answer:
            return Answer(compiled_whole(x0, y).numpy(), calls, calls)

        def run_steps() -> Answer:
            low, high = tf.maximum(x0 - problem.eps, 0.0), tf.minimum(x0 + problem.eps, 1.0)
            x = _random_start(problem, x0, low, high)
            for _ in range(count):
                x = compiled_step(x, y, low, high)
            return Answer(x.numpy(), calls, calls)

        return run_whole if loop_in_graph else run_steps

    return prepare


# --- libraries -------------------------------------------------------------------------------


def _foolbox(relative_step: float | None) -> Callable[[Problem], Callable[[], Answer]]:
    def prepare(problem: Problem) -> Callable[[], Answer]:
        import foolbox

        model = foolbox.TensorFlowModel(problem.logits_model, bounds=(0, 1))
        relative = relative_step or problem.step / problem.eps
        attack = foolbox.attacks.LinfPGD(rel_stepsize=relative, steps=problem.steps)
        x, y = tf.constant(problem.x), tf.constant(problem.labels)

        def run() -> Answer:
            _, clipped, _ = attack(model, x, y, epsilons=problem.eps)
            return Answer(clipped.numpy())

        return run

    return prepare


def _art(problem: Problem) -> Callable[[], Answer]:
    import keras
    from art.attacks.evasion import ProjectedGradientDescent
    from art.estimators.classification import TensorFlowV2Classifier

    estimator = TensorFlowV2Classifier(
        problem.logits_model,
        nb_classes=problem.opened.classifier.class_count,
        input_shape=problem.opened.classifier.input_shape,
        loss_object=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        clip_values=(0.0, 1.0),
    )
    attack = ProjectedGradientDescent(
        estimator,
        norm=np.inf,
        eps=problem.eps,
        eps_step=problem.step,
        max_iter=problem.steps,
        num_random_init=1,
        batch_size=len(problem.labels),
        verbose=False,
    )
    x, y = problem.x, problem.labels
    return lambda: Answer(np.asarray(attack.generate(x, y=y)))


def _cleverhans(problem: Problem) -> Callable[[], Answer]:
    from cleverhans.tf2.attacks.projected_gradient_descent import projected_gradient_descent

    x, y = tf.constant(problem.x), tf.constant(problem.labels)

    def run() -> Answer:
        images = projected_gradient_descent(
            problem.logits_model,
            x,
            problem.eps,
            problem.step,
            problem.steps,
            np.inf,
            clip_min=0.0,
            clip_max=1.0,
            y=y,
            rand_init=True,
        )
        return Answer(images.numpy())

    return run


_PUBLISHED = "step 2.5·eps/steps"
_CONSTANT = "pgd:steps={steps},schedule=constant,rel-step={share}"
if "scouts" in attack_class("pgd").model_fields:
    _CONSTANT += ",scouts=0"
OURS = "advcli"
PLAIN = "plain loop"

CONTENDERS: tuple[Contender, ...] = (
    Contender(OURS, "as shipped: 8-bit images", _advcli("pgd:steps={steps}", "uint8")),
    Contender("advcli", "pixels float", _advcli("pgd:steps={steps}", "float"), main=False),
    Contender("advcli", f"8-bit images, {_PUBLISHED}", _advcli(_CONSTANT, "uint8")),
    Contender(PLAIN, f"`tf.while_loop`, {_PUBLISHED}", _plain(loop_in_graph=True), main=False),
    Contender(PLAIN, f"compiled step, {_PUBLISHED}", _plain(loop_in_graph=False)),
    Contender(
        "CleverHans",
        _PUBLISHED,
        _cleverhans,
        "cleverhans",
        "cleverhans.tf2.attacks.projected_gradient_descent",
    ),
    Contender("Foolbox", _PUBLISHED, _foolbox(None), "foolbox", "foolbox"),
    Contender(
        "Foolbox",
        "its default step, eps/30",
        _foolbox(0.01 / 0.3),
        "foolbox",
        "foolbox",
        main=False,
    ),
    Contender(
        "ART", _PUBLISHED, _art, "adversarial-robustness-toolbox", "art.estimators.classification"
    ),
)

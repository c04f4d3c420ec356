"""The batch does not matter: order, subset and resume are bit-identical, slot counts agree.

On a real convolutional network (the robust sample, whose images keep the slots busy), and for
every attack on a linear one.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import tensorflow as tf

from advcli.attacks.base import Attack, Step
from advcli.attacks.registry import NAMES, attack_class, parse_spec
from advcli.engine.jobs import Subject
from advcli.engine.run import Engine
from advcli.images.writer import read_back
from advcli.threats.space import Space, per_row
from tests.attacks.expectations import EXPECTED
from tests.support.linear import LinearModel, images

SAMPLES = Path(__file__).parents[2] / "sample_models" / "digits"


@pytest.fixture(scope="module")
def digits():
    from advcli.models import classifier, loader, preprocessing, runtime

    runtime.prepare("cpu")
    model = classifier.build(loader.load(SAMPLES / "robust.h5"), preprocessing.parse("unit", 1))
    files = sorted((SAMPLES / "images").glob("*/*.png"))[::9]
    pixels = np.stack([read_back(file).reshape(28, 28, 1) for file in files])
    return model, pixels


@pytest.fixture(scope="module")
def linear():
    model = LinearModel((5, 7, 3), 4)
    return model, images(model.input_shape, 21)


def subjects_of(model, pixels, eps):
    labels = model.confirm(pixels / np.float32(255)).prediction
    return [
        Subject(str(i), image, int(label), f"content {i}", eps)
        for i, (image, label) in enumerate(zip(pixels, labels, strict=True))
    ]


def run(model, name, norm, subjects, *, batch=16, pixels="uint8", engine=None):
    engine = engine or Engine(model, batch_size=batch, pixels=pixels, seed=3)
    return answers(engine.run(chosen(name, norm), norm, subjects))


def chosen(name, norm):
    return parse_spec(EXPECTED[name].tiny or name, norm).attack


def answers(outcomes):
    return {
        (o.key, o.eps): (
            o.success,
            o.prediction,
            o.point.tobytes(),
            o.forwards,
            o.gradients,
            o.steps,
            o.same_as,
        )
        for o in outcomes
    }


def budget(name, norm, scale=1.0):
    if attack_class(name).kind == "minimum-norm":
        return ()
    eps = {"linf": 0.12, "l2": 1.5, "l1": 12.0, "l0": 20.0}[norm]
    return (eps * scale / 2, eps * scale) if norm != "l0" else (4.0, eps)


@pytest.mark.parametrize("name", NAMES)
def test_order_and_subset_change_no_bit_on_a_convolutional_network(digits, name):
    model, pixels = digits
    norm = attack_class(name).norms[0]
    width = chosen(name, norm).width(Space(norm, model.input_shape))
    batch = 16 if width == 1 else min(8 * width, 256)
    engine = Engine(model, batch_size=batch, pixels="uint8", seed=3)  # traced once, run thrice
    subjects = subjects_of(model, pixels, budget(name, norm))
    if name in ("cw", "hopskipjump"):
        subjects = subjects[:10]
    together = run(model, name, norm, subjects, engine=engine)
    shuffled = [subjects[i] for i in np.random.default_rng(0).permutation(len(subjects))]
    assert run(model, name, norm, shuffled, engine=engine) == together
    subset = run(model, name, norm, subjects[3::4], engine=engine)
    assert subset == {key: together[key] for key in subset}
    assert len({value[2] for value in together.values()}) > 5  # the points do differ


class Exponential(Attack):
    """Comes nearer by exponentials of one number an image."""

    name: ClassVar[str] = "exponential"
    summary: ClassVar[str] = ""
    kind: ClassVar = "minimum-norm"
    access: ClassVar = "decision"
    norms: ClassVar = ("l2",)
    reference: ClassVar[str] = ""

    def width(self, space):
        return 8

    def length(self, space):
        return 30

    def cost(self, space):
        return 240, 0

    def init(self, row, space, random):
        return tf.ones_like(row.eps), random.uniform(space.shape) - row.x0

    def step(self, row, state, k, space, oracle, random):
        far, towards = state
        far *= tf.exp(-0.2 * random.uniform(()))
        point = row.x0 + per_row(far, towards) * towards
        oracle.decide(tf.repeat(point[:, None], 8, axis=1))
        return Step((far, towards), tf.zeros_like(k, tf.bool))


def test_rows_that_share_a_register_change_no_bit(linear):
    """Exponentials of the values left over beside whole registers differ in the last bit."""
    model, clean = linear
    subjects = subjects_of(model, clean, ())
    engine = Engine(model, batch_size=12 * 8, pixels="float", seed=3)  # twelve images' points
    together = answers(engine.run(Exponential(), "l2", subjects))
    backwards = answers(engine.run(Exponential(), "l2", subjects[::-1]))
    assert backwards == together
    assert any(value[0] for value in together.values())


# one of each kind and access: the number of slots and the grid are the engine's; that the rows of
# each attack keep apart is shown above
SLOW = pytest.mark.slow
OF_EACH_KIND = list({(attack_class(n).kind, attack_class(n).access): n for n in NAMES}.values())


@pytest.mark.parametrize(
    ("name", "pixels"),
    [
        *(
            (name, "uint8") if name in OF_EACH_KIND else pytest.param(name, "uint8", marks=SLOW)
            for name in NAMES
        ),
        *((name, "float") for name in OF_EACH_KIND),
    ],
)
def test_slot_counts_agree_on_verdicts(linear, name, pixels):
    model, clean = linear
    norm = attack_class(name).norms[-1]
    subjects = subjects_of(model, clean, budget(name, norm, 0.25))
    engine = Engine(model, batch_size=64, pixels=pixels, seed=3)
    slots = engine.slots_for(chosen(name, norm), norm)
    verdicts = []
    for many in (1, 8, 64):  # the compiled tick takes any number of rows
        slots.slots = many
        found = run(model, name, norm, subjects, engine=engine)
        verdicts.append({key: value[0] for key, value in found.items()})
    assert verdicts[0] == verdicts[1] == verdicts[2]


@pytest.mark.parametrize("slots", [1, 7, 64])
def test_slot_counts_agree_on_a_convolutional_network(digits, slots):
    model, pixels = digits
    subjects = subjects_of(model, pixels, (0.1, 0.2))
    expected = {k: v[0] for k, v in run(model, "pgd", "linf", subjects, batch=16).items()}
    found = {k: v[0] for k, v in run(model, "pgd", "linf", subjects, batch=slots).items()}
    assert found == expected
    assert len(set(expected.values())) == 2


@pytest.mark.parametrize("name", ["pgd", "random-search"])
def test_a_joint_sweep_equals_separate_runs_until_the_first_success(digits, name):
    model, pixels = digits
    sweep = (0.05, 0.1, 0.2)
    joint = run(model, name, "linf", subjects_of(model, pixels, sweep))
    fooled = set()
    for eps in sweep:
        alone = run(model, name, "linf", subjects_of(model, pixels, (eps,)))
        for (key, _), value in alone.items():
            if key in fooled:
                assert joint[key, eps][0]
                assert joint[key, eps][5] == 0
            else:
                assert joint[key, eps] == value
        fooled |= {key for (key, _), value in alone.items() if value[0]}
    assert fooled


def test_resume_equals_uninterrupted(digits):
    """What is left after a stop (some budgets of some images) gives what the whole would have."""
    model, pixels = digits
    sweep = (0.05, 0.1, 0.2)
    whole = run(model, "pgd", "linf", subjects_of(model, pixels, sweep))
    rest = [
        Subject(s.key, s.pixels, s.label, s.sha256, sweep[1:])
        for s in subjects_of(model, pixels, sweep)
        if not whole[s.key, 0.05][0]
    ]
    resumed = run(model, "pgd", "linf", rest[::2])
    assert resumed == {key: whole[key] for key in resumed}
    assert len(resumed) == 2 * len(rest[::2])


def test_restarts_are_an_ordered_chain(digits):
    """More restarts keep the answers of fewer, and only add successes."""
    model, pixels = digits
    subjects = subjects_of(model, pixels, (0.17,))

    def found(restarts):
        engine = Engine(model, batch_size=64, pixels="uint8", seed=0)
        attack = parse_spec(f"pgd:steps=2,rel-step=0.4,restarts={restarts}", "linf").attack
        return answers(engine.run(attack, "linf", subjects))

    one, many = found(1), found(6)
    for key, value in one.items():
        if value[0]:
            assert many[key] == value
    assert sum(v[0] for v in many.values()) > sum(v[0] for v in one.values())
    costs = [v[4] for v in many.values() if not v[0]]
    assert costs
    assert set(costs) == {12}  # all six restarts counted, nothing that ran ahead twice

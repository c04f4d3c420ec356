"""The contract that every registered attack keeps; nothing here names an attack it must cover.

A new attack enters by being registered. Strength is bounded from both sides on linear models,
where the nearest adversarial image is known exactly, box included.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from advcli.attacks.registry import NAMES, attack_class, parse_spec
from advcli.engine.jobs import Subject
from advcli.engine.run import Engine
from advcli.threats.space import Space
from tests.attacks.expectations import EXPECTED
from tests.support.linear import Confirmed, LinearModel, exact_distance, images

MINIMUM_NORM = [(name, norm) for name, entry in EXPECTED.items() for norm in entry.bounds]
PAIRS = [(name, norm) for name in NAMES for norm in attack_class(name).norms]
SHAPES = {"gray": (6, 6, 1), "colour, not square": (5, 7, 3)}
# classes -> the shape that they are tried with: every count and every shape, not every pair
SHAPE_OF = {2: SHAPES["gray"], 3: SHAPES["colour, not square"], 10: SHAPES["gray"]}
BOXES = ((0, 256), (100, 156))  # active, inactive


def request(name, norm):
    return parse_spec(EXPECTED[name].fast or name, norm)


def subjects_of(model, pixels, eps=(), targets=None):
    labels = model.confirm(pixels / 255.0).prediction
    starts = {int(label): image for label, image in zip(labels, pixels, strict=True)}
    return [
        Subject(
            key=str(i),
            pixels=image,
            label=int(label),
            sha256=f"image {image.tobytes().hex()[:64]}",
            eps=tuple(eps),
            target=None if targets is None else int(targets[i]),
            start=None if targets is None else starts.get(int(targets[i])),
        )
        for i, (image, label) in enumerate(zip(pixels, labels, strict=True))
    ]


def engine_of(model, *, pixels="uint8", batch=16, seed=0):
    """One engine for several runs of an attack: it is traced once, which takes most of the time."""
    return Engine(model, batch_size=batch, pixels=pixels, seed=seed)


def attack(model, name, norm, subjects, *, pixels="uint8", batch=16, seed=0, spec=None):
    asked = parse_spec(spec, norm) if spec else request(name, norm)
    engine = engine_of(model, pixels=pixels, batch=batch, seed=seed)
    return list(engine.run(asked.attack, norm, subjects))


def budgets(name, *values):
    return () if attack_class(name).kind == "minimum-norm" else values


def typical(model, pixels, norm):
    """(the exact distances, a budget in their middle)"""
    exact = np.array([exact_distance(model, image, norm) for image in pixels])
    eps = float(np.median(exact))
    return exact, float(max(1, math.floor(eps))) if norm == "l0" else eps


def check_inside_and_counted(model, name, norm, clean, subjects, outcomes, *, spec=None):
    """Ball and box, distances, predictions, success and counts are what they are said to be."""
    assert {(o.key, o.eps) for o in outcomes} == {
        (s.key, e) for s in subjects for e in (s.eps or (None,))
    }
    chosen = parse_spec(spec, norm).attack if spec else request(name, norm).attack
    cost = chosen.cost(Space(norm, model.input_shape))
    siblings = chosen.siblings(model.class_count)  # each may come with a confirmation
    for outcome in outcomes:
        point = outcome.point
        origin = clean[int(outcome.key)]
        if point.dtype == np.uint8:
            values, start = point.astype(np.float64) / 255, origin.astype(np.float64) / 255
        else:
            assert point.dtype == np.float32
            values, start = point.astype(np.float64), (origin / np.float32(255)).astype(np.float64)
        assert values.min() >= 0
        assert values.max() <= 1
        delta = np.abs(values - start)
        measured = {
            "linf": delta.max(),
            "l2": math.sqrt((delta**2).sum()),
            "l1": delta.sum(),
            "l0": np.count_nonzero(delta.any(axis=-1)),
        }
        assert outcome.distance == pytest.approx(measured, rel=1e-9, abs=1e-12)
        if outcome.eps is not None:
            assert measured[norm] <= outcome.eps * (1 + 1e-6)
        assert outcome.prediction == model.confirm(values[None]).prediction[0]
        label = subjects[int(outcome.key)].label
        assert outcome.success == (outcome.prediction != label)
        if outcome.same_as is None:
            assert 1 <= outcome.forwards <= cost[0] + 1 + siblings
            assert outcome.gradients <= cost[1] + 1
            assert outcome.steps >= 1


@pytest.mark.parametrize(("name", "norm"), PAIRS)
def test_inside_ball_and_box_and_counted_on_the_grid(name, norm):
    model = LinearModel(SHAPES["colour, not square"], 3)
    clean = images(model.input_shape, 12)
    _, eps = typical(model, clean, norm)
    subjects = subjects_of(model, clean, budgets(name, eps, 2 * eps))
    outcomes = attack(model, name, norm, subjects)
    assert {o.point.dtype for o in outcomes} == {np.dtype(np.uint8)}
    check_inside_and_counted(model, name, norm, clean, subjects, outcomes)


@pytest.mark.parametrize(
    ("name", "norm"),
    [(n, p) for n, p in PAIRS if not EXPECTED[n].bounds and 10 not in EXPECTED[n].decides],
)
def test_in_float_no_attack_beats_the_optimum(name, norm):
    """Those of which more is asked below are held to this there."""
    model = LinearModel(SHAPES["colour, not square"], 10, seed=3)
    clean = images(model.input_shape, 24, seed=4)
    exact, eps = typical(model, clean, norm)
    subjects = subjects_of(model, clean, budgets(name, eps, 2 * eps))
    outcomes = attack(model, name, norm, subjects, pixels="float")
    check_inside_and_counted(model, name, norm, clean, subjects, outcomes)
    check_none_below(outcomes, norm, exact)


def check_none_below(outcomes, norm, exact):
    for outcome in outcomes:
        if outcome.success:
            assert outcome.distance[norm] >= exact[int(outcome.key)] * (1 - 1e-4)


def both_boxes(model, count, seed, norm):
    """Images for which the box binds, then some for which it does not: (pixels, exact, eps)."""
    boxes = [images(model.input_shape, count, seed=seed, low=low, high=high) for low, high in BOXES]
    known = [typical(model, clean, norm) for clean in boxes]
    exact = np.concatenate([distances for distances, _ in known])
    return np.concatenate(boxes), exact, np.repeat([eps for _, eps in known], count)


@pytest.mark.parametrize(
    ("name", "norm", "classes"),
    [
        pytest.param(name, norm, classes, marks=[pytest.mark.slow] if classes == 3 else [])
        for name, norm in PAIRS
        for classes in EXPECTED[name].decides
    ],
)
def test_iterative_attacks_find_what_is_within_eps(name, norm, classes):
    model = LinearModel(SHAPE_OF[classes], classes, seed=5)
    clean, exact, eps = both_boxes(model, 40, 6, norm)
    subjects = [
        replace(subject, eps=(float(e),))
        for subject, e in zip(subjects_of(model, clean), eps, strict=True)
    ]
    outcomes = attack(model, name, norm, subjects, pixels="float", batch=80)
    check_inside_and_counted(model, name, norm, clean, subjects, outcomes)
    check_none_below(outcomes, norm, exact)
    found = {int(o.key) for o in outcomes if o.success}
    for box in range(len(BOXES)):
        part = range(40 * box, 40 * (box + 1))
        must = {i for i in part if exact[i] <= 0.98 * eps[i]}
        must_not = {i for i in part if exact[i] > eps[i] * (1 + 1e-5)}
        assert len(must) >= 15
        assert len(must_not) >= 15
        assert must <= found
        assert not must_not & found


@pytest.mark.parametrize(("name", "norm"), MINIMUM_NORM)
@pytest.mark.parametrize(
    "classes", [*(pytest.param(few, marks=pytest.mark.slow) for few in (2, 3)), 10]
)
def test_minimum_norm_attacks_come_near_the_optimum(name, norm, classes):
    model = LinearModel(SHAPE_OF[classes], classes, seed=7)
    clean, exact, _ = both_boxes(model, 24, 8, norm)
    # its defaults once; they only take longer than `fast`
    spec = name if attack_class(name).access == "gradient" and classes == 10 else None
    subjects = subjects_of(model, clean)
    outcomes = attack(model, name, norm, subjects, pixels="float", batch=128, spec=spec)
    check_inside_and_counted(model, name, norm, clean, subjects, outcomes, spec=spec)
    check_none_below(outcomes, norm, exact)
    assert all(o.success for o in outcomes)
    median, tail, queries = EXPECTED[name].bounds[norm]
    for box in range(1 if EXPECTED[name].ignores_box else 0, len(BOXES)):
        chosen = [o for o in outcomes if int(o.key) // 24 == box]
        assert len(chosen) == 24
        away = np.array([o.distance[norm] for o in chosen])
        optimum = exact[[int(o.key) for o in chosen]]
        ratio = away - optimum if norm == "l0" else away / optimum
        assert np.median(ratio) <= median
        assert np.quantile(ratio, 0.95) <= tail
        assert np.median([o.forwards for o in chosen]) <= queries


def test_every_attack_states_its_strength():
    assert set(EXPECTED) == set(NAMES)
    kinds = {(n, p) for n, p in PAIRS if attack_class(n).kind == "minimum-norm"}
    assert kinds == set(MINIMUM_NORM)


@pytest.mark.parametrize(
    ("name", "norm"), [(n, p) for n, p in PAIRS if EXPECTED[n].decides or n in {"fgsm", "fgm"}]
)
def test_targeted_forms_hit_the_target(name, norm):
    """Two classes: the other one is the target, so success means the same as untargeted."""
    model = LinearModel(SHAPES["gray"], 2, seed=9)
    clean = images(model.input_shape, 24, seed=10, low=90, high=166)
    _, eps = typical(model, clean, norm)
    labels = model.confirm(clean / 255.0).prediction
    engine, asked = engine_of(model), request(name, norm).attack
    plain = list(engine.run(asked, norm, subjects_of(model, clean, (eps,))))
    targets = subjects_of(model, clean, (eps,), targets=1 - labels)
    aimed = list(engine.run(asked, norm, targets))
    assert [o.success for o in sorted(plain, key=lambda o: int(o.key))] == [
        o.success for o in sorted(aimed, key=lambda o: int(o.key))
    ]


@pytest.mark.parametrize(
    "name", [n for n in NAMES if attack_class(n).targetable and attack_class(n).access != "none"]
)
def test_targeted_success_is_the_target_class(name):
    norm = attack_class(name).norms[0]
    model = LinearModel(SHAPES["gray"], 4, seed=11)
    clean = images(model.input_shape, 16, seed=12, low=90, high=166)
    labels = model.confirm(clean / 255.0).prediction
    targets = (labels + 1) % 4
    exact, _ = typical(model, clean, norm)
    eps = float(6 * np.median(exact))
    subjects = subjects_of(model, clean, budgets(name, eps), targets=targets)
    outcomes = attack(model, name, norm, subjects)
    for outcome in outcomes:
        assert outcome.success == (outcome.prediction == targets[int(outcome.key)])
    assert sum(o.success for o in outcomes) >= 12


# of every way to be built; compiling takes so long that the others wait for `-m slow`
XLA = ("pgd", "square", "hopskipjump")


@pytest.mark.parametrize(
    "name", [name if name in XLA else pytest.param(name, marks=pytest.mark.slow) for name in NAMES]
)
def test_xla_gives_the_same_verdicts(name):
    norm = attack_class(name).norms[-1]  # L0 where there is one: fused arithmetic shows there first
    verdicts = []
    for jit in (False, True):
        model = LinearModel(SHAPES["gray"], 3, seed=13)
        model.jit_compile = jit
        clean = images(model.input_shape, 12, seed=14)
        _, eps = typical(model, clean, norm)
        outcomes = attack(
            model,
            name,
            norm,
            subjects_of(model, clean, budgets(name, 3 * eps)),
            spec=EXPECTED[name].tiny or None,
        )
        verdicts.append({o.key: o.success for o in outcomes})
    assert verdicts[0] == verdicts[1]
    assert any(verdicts[0].values())


@pytest.mark.parametrize("eps", [8 / 255, 0.03137255, 0.031373, 101 / 255, 1.0])
def test_a_budget_of_whole_levels_is_used_whole_however_it_is_written(eps):
    model = LinearModel(SHAPES["gray"], 2, seed=15)
    clean = images(model.input_shape, 24, seed=16, low=120, high=136)
    levels = round(eps * 255)
    outcomes = attack(model, "fgsm", "linf", subjects_of(model, clean, (eps,)))
    reached = {round(o.distance["linf"] * 255) for o in outcomes}
    room = range(120, 136)  # to the nearer or farther end of the box
    assert reached == {levels} if levels < 120 else reached <= set(room)
    assert all(o.distance["linf"] <= eps * (1 + 1e-6) for o in outcomes)


@pytest.mark.parametrize("eps", [0.0313725, 0.03, 0.00393])
def test_a_budget_between_two_levels_is_rounded_down(eps):
    model = LinearModel(SHAPES["gray"], 2, seed=15)
    clean = images(model.input_shape, 24, seed=16, low=100, high=156)
    outcomes = attack(model, "fgsm", "linf", subjects_of(model, clean, (eps,)))
    assert {round(o.distance["linf"] * 255) for o in outcomes} == {math.floor(eps * 255)}


def test_pgd_may_spread_its_first_steps_over_every_value():
    model = LinearModel(SHAPES["gray"], 10, seed=15)
    clean = images(model.input_shape, 24, seed=16)
    _, eps = typical(model, clean, "l1")
    spec = "pgd:steps=20,sparsity=1"
    outcomes = attack(model, "pgd", "l1", subjects_of(model, clean, (2 * eps,)), spec=spec)
    assert sum(o.success for o in outcomes) >= 12


@pytest.mark.parametrize("step", [0.03333333, 1 / 255, 1e-7, 2.0, 0.1])
def test_a_spec_means_what_it_was_made_of(step):
    asked = parse_spec(f"pgd:rel-step={step!r}", "linf").attack
    assert asked.rel_step == step
    assert parse_spec(asked.spec, "linf").attack == asked


def test_bim_travels_as_far_as_published():
    """Three steps of 0.2 eps reach 0.6 eps, no more and no less."""
    model = LinearModel(SHAPES["gray"], 2, seed=17)
    clean = images(model.input_shape, 60, seed=18, low=100, high=156)
    exact = np.array([exact_distance(model, image, "linf") for image in clean])
    eps = float(np.median(exact)) / 0.6
    outcomes = attack(
        *(model, "bim", "linf", subjects_of(model, clean, (eps,))),
        pixels="float",
        spec="bim:steps=3,rel-step=0.2,scouts=0",
    )
    for outcome in outcomes:
        distance = exact[int(outcome.key)]
        if abs(distance - 0.6 * eps) > 1e-3 * eps:
            assert outcome.success == (distance < 0.6 * eps)


@pytest.mark.parametrize(
    ("name", "pixels"),
    # the record is the engine's: one attack of each way to use it
    [("cw", "uint8"), ("cw", "float"), *((n, "uint8") for n in ("fab-t", "fmn", "hopskipjump"))],
)
def test_a_minimum_that_is_not_confirmed_gives_way_to_one_behind_it(name, pixels):
    """The model as loaded differs a little from the compiled one: no image is lost for it."""

    class Shifted(LinearModel):
        def confirm(self, x):
            z = super().confirm(x).logits
            z[:, 0] += 3e-4 * np.abs(z).max()
            return Confirmed(z.argmax(axis=1), z)

    model = Shifted(SHAPES["gray"], 3, seed=19)
    clean = images(model.input_shape, 24, seed=20)
    norm = attack_class(name).norms[0]
    outcomes = attack(model, name, norm, subjects_of(model, clean), pixels=pixels)
    assert all(o.success for o in outcomes)
    exact, _ = typical(model, clean, norm)
    ratio = [o.distance[norm] / exact[int(o.key)] for o in outcomes]
    assert np.median(ratio) < 1.2

"""The contract of the attacks that are fitted: every one that is registered, whatever it learns.

Strength is bounded from both sides where the best answer is known: on two classes one
perturbation carries every image to a class as well as its own best one would.
"""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

from advcli.attacks import registry
from advcli.attacks.base import Attack
from advcli.attacks.fitted import FittedAttack, place_in_split
from advcli.attacks.registry import FITTED, NAMES, attack_class, parse_spec
from advcli.engine.fitted import Lesson, fit, judge
from advcli.engine.jobs import Subject
from advcli.engine.run import Engine
from advcli.errors import AdvcliError, UsageError
from tests.support.linear import LinearModel, exact_distance, images

QUICK = {
    "universal": "universal:steps=40",
    "patch": "patch:steps=40,batch=16",
    "advgan": "advgan:steps=8,batch=8,filters=4",
}
STRONG = {  # as strong as the bounds below, in seconds
    "universal": "universal:steps=60",
    "advgan": "advgan:steps=120,batch=16,filters=4",
}
PAIRS = [(name, norm) for name in FITTED for norm in attack_class(name).norms or (None,)]
SHAPES = {"gray": (6, 6, 1), "colour, not square": (5, 7, 3)}


def subjects_of(model, pixels, eps=(), target=None):
    labels = model.confirm(pixels / 255.0).prediction
    return [
        Subject(str(i), image, int(label), f"content {i}", tuple(eps), target)
        for i, (image, label) in enumerate(zip(pixels, labels, strict=True))
    ]


def lesson_of(model, pixels, target=None):
    labels = model.confirm(pixels / 255.0).prediction
    kept = labels != (-1 if target is None else target)
    return Lesson(pixels[kept], labels[kept], target)


def budgets(norm, *eps):
    return () if norm is None else eps


def learned(engine, attack, norm, lesson, eps):
    return {e: fit(engine, attack, norm, e, lesson)[0] for e in (eps or (None,))}


def eps_of(norm):
    return {"linf": 24 / 255, "l2": 0.8}.get(norm)


def test_none_is_left_out():
    """Whatever is registered goes through one of the two contracts."""
    assert not set(NAMES) & set(FITTED)
    assert set(FITTED) == set(QUICK)
    for name in (*NAMES, *FITTED):
        kind = FittedAttack if name in FITTED else Attack
        assert issubclass(attack_class(name), kind)
    assert set(registry._MODULES | registry._FITTED) == set(NAMES) | set(FITTED)


@pytest.mark.parametrize(("name", "norm"), PAIRS)
@pytest.mark.parametrize(
    ("pixels", "shape"),
    [("uint8", SHAPES["colour, not square"]), ("float", SHAPES["gray"])],
)
def test_inside_ball_and_box_judged_and_counted(name, norm, pixels, shape):
    model = LinearModel(shape, 3, seed=1)
    clean = images(shape, 40, seed=2)
    attack = parse_spec(QUICK[name], norm).attack
    engine = Engine(model, batch_size=16, pixels=pixels, seed=0)
    eps = () if norm is None else (eps_of(norm), 2 * eps_of(norm))
    artefacts = learned(engine, attack, norm, lesson_of(model, clean[:20]), eps)
    subjects = subjects_of(model, clean[20:], eps)
    outcomes = list(judge(engine, attack, norm, artefacts, subjects))
    assert Counter((o.key, o.eps) for o in outcomes) == Counter(
        (s.key, e) for s in subjects for e in (s.eps or (None,))
    )
    for outcome in outcomes:
        origin = clean[20 + int(outcome.key)]
        assert outcome.point.dtype == (np.uint8 if pixels == "uint8" else np.float32)
        scale = 255 if pixels == "uint8" else 1
        values = outcome.point.astype(np.float64) / scale
        start = origin / 255 if pixels == "uint8" else (origin / np.float32(255)).astype(float)
        assert values.min() >= 0
        assert values.max() <= 1
        delta = np.abs(values - start)
        measured = {"linf": delta.max(), "l2": math.sqrt((delta**2).sum())}
        assert outcome.distance["linf"] == pytest.approx(measured["linf"], abs=1e-12)
        assert outcome.distance["l2"] == pytest.approx(measured["l2"], rel=1e-9)
        if norm is not None:
            assert measured[norm] <= outcome.eps * (1 + 1e-6)
        assert outcome.prediction == model.confirm(values[None].astype(np.float32)).prediction[0]
        assert outcome.success == (outcome.prediction != subjects[int(outcome.key)].label)
        assert outcome.gradients == 0
        repeated = outcome.same_as is not None
        assert (outcome.forwards, outcome.steps) == ((0, 0) if repeated else (1, 1))
        assert not repeated or outcome.success
    for subject in subjects:  # fooled at one eps: at every larger one
        hits = [o.success for o in outcomes if o.key == subject.key]
        assert hits == sorted(hits)


@pytest.mark.parametrize(("name", "norm"), PAIRS)
def test_equal_fits_are_equal_and_come_back_from_their_files(name, norm, tmp_path):
    model = LinearModel((9, 9, 3), 4, seed=3)
    clean = images(model.input_shape, 48, seed=4)
    attack = parse_spec(QUICK[name], norm).attack
    eps = budgets(norm, eps_of(norm))
    points = []
    for _ in range(2):
        engine = Engine(model, batch_size=16, pixels="uint8", seed=5)
        artefacts = learned(engine, attack, norm, lesson_of(model, clean[:24]), eps)
        subjects = subjects_of(model, clean[24:], eps)
        points.append([o.point.tobytes() for o in judge(engine, attack, norm, artefacts, subjects)])
    assert points[0] == points[1]
    for file, data in next(iter(artefacts.values())).files().items():
        (tmp_path / file).write_bytes(data)
    again = {key: attack.load(tmp_path, model.input_shape) for key in artefacts}
    # a row does not depend on the others: another order, other neighbours
    reread = list(judge(engine, attack, norm, again, subjects[::-1][:7]))
    assert [o.point.tobytes() for o in reread] == points[0][::-1][:7]


@pytest.mark.parametrize("name", FITTED)
def test_another_seed_learns_and_places_differently(name):
    norm = (attack_class(name).norms or (None,))[0]
    model = LinearModel((8, 8, 1), 3, seed=6)
    clean = images(model.input_shape, 24, seed=7)
    attack = parse_spec(QUICK[name], norm).attack
    found = set()
    for seed in range(2):
        engine = Engine(model, batch_size=8, pixels="float", seed=seed)
        artefacts = learned(engine, attack, norm, lesson_of(model, clean), budgets(norm, 0.1))
        outcomes = judge(engine, attack, norm, artefacts, subjects_of(model, clean[:1], (0.1,)))
        found |= {o.point.tobytes() for o in outcomes}
    assert len(found) == 2


@pytest.mark.parametrize(("name", "norm"), [(name, norm) for name, norm in PAIRS if name in STRONG])
def test_towards_one_of_two_classes_it_is_as_good_as_a_search_on_each_image(name, norm):
    """There the best perturbation is the same for all: who is within eps of the class is hit."""
    model = LinearModel(SHAPES["gray"], 2, seed=8)
    clean = images(model.input_shape, 400, seed=9, low=108, high=148)
    labels = model.confirm(clean / 255.0).prediction
    clean = clean[labels == 0]
    half = len(clean) // 2
    exact = np.array([exact_distance(model, image, norm) for image in clean[half:]])
    eps = float(np.median(exact))
    attack = parse_spec(STRONG[name], norm).attack
    engine = Engine(model, batch_size=64, pixels="float", seed=0)
    artefacts = learned(
        engine, attack, norm, Lesson(clean[:half], labels[labels == 0][:half], 1), (eps,)
    )
    subjects = subjects_of(model, clean[half:], (eps,), target=1)
    found = {o.key for o in judge(engine, attack, norm, artefacts, subjects) if o.success}
    slack = {"universal": 0.98, "advgan": 0.95}[name]
    must = {str(i) for i, d in enumerate(exact) if d <= slack * eps}
    must_not = {str(i) for i, d in enumerate(exact) if d > eps * (1 + 1e-5)}
    assert len(must) >= 30
    assert len(must_not) >= 30
    assert must <= found
    assert not must_not & found


def test_the_patch_is_the_best_one_where_that_is_known():
    """A model that only looks at the mean colour: the best patch is one colour at every place."""
    model = LinearModel((16, 12, 3), 2, seed=10)
    per_channel = np.random.default_rng(11).normal(size=(3, 2)).astype(np.float32)
    model.W = np.tile(per_channel, (16 * 12, 1)) / (16 * 12)
    model.b = (-0.5 * model.W.sum(axis=0)).astype(np.float32)
    clean = images(model.input_shape, 300, seed=12)
    clean = (clean * np.random.default_rng(13).uniform(0.8, 1, (300, 1, 1, 3))).astype(np.uint8)
    labels = model.confirm(clean / 255.0).prediction
    source = int(np.bincount(labels).argmax())
    clean = clean[labels == source]
    attack = parse_spec("patch:steps=120").attack
    engine = Engine(model, batch_size=64, pixels="float", seed=0)
    half = len(clean) // 2
    lesson = Lesson(clean[:half], np.full(half, source), 1 - source)
    artefact, _ = fit(engine, attack, None, None, lesson)
    wanted = (per_channel[:, 1 - source] > per_channel[:, source]).astype(np.float32)
    side = artefact.texture.shape[0]
    centre = artefact.texture[side // 4 : -side // 4, side // 4 : -side // 4]
    assert np.abs(centre - wanted).max() < 0.05
    subjects = subjects_of(model, clean[half:], target=1 - source)
    learned_ = judge(engine, attack, None, {None: artefact}, subjects)
    artefact.texture = np.broadcast_to(wanted, artefact.texture.shape).copy()
    best = judge(engine, attack, None, {None: artefact}, subjects)
    gained = [sum(o.success for o in outcomes) for outcomes in (learned_, best)]
    assert gained[1] >= 10
    assert gained[1] - 1 <= gained[0] <= gained[1]


def test_deepfool_ends_once_enough_images_are_fooled():
    model = LinearModel((6, 6, 1), 2, seed=14)
    clean = images(model.input_shape, 64, seed=15, low=108, high=148)
    labels = model.confirm(clean / 255.0).prediction
    lesson = Lesson(clean[labels == 0], labels[labels == 0])
    engine = Engine(model, batch_size=64, pixels="float", seed=0)
    attack = parse_spec("universal:method=deepfool,steps=50,batch=8,delta=0.2").attack
    _, report = fit(engine, attack, "l2", 2.0, lesson)
    assert report.steps < 50
    assert report.fooled >= 0.8
    assert report.images == len(lesson.pixels)


@pytest.mark.parametrize("method", ["sgd", "deepfool"])
@pytest.mark.parametrize("classes", [2, 3, 10])
def test_universal_never_beats_a_search_on_each_image(method, classes):
    model = LinearModel((5, 7, 3), classes, seed=16)
    clean = images(model.input_shape, 60, seed=17)
    exact = [exact_distance(model, image, "l2") for image in clean]
    eps = float(np.median(exact))
    engine = Engine(model, batch_size=32, pixels="float", seed=0)
    attack = parse_spec(f"universal:method={method},steps=12,batch=8").attack
    artefact, _ = fit(engine, attack, "l2", eps, lesson_of(model, clean))
    outcomes = list(judge(engine, attack, "l2", {eps: artefact}, subjects_of(model, clean, (eps,))))
    for outcome in outcomes:
        if outcome.success:
            assert outcome.distance["l2"] >= exact[int(outcome.key)] * (1 - 1e-4)
    assert any(o.success for o in outcomes)


def test_a_blind_generator_is_no_harm():
    """NaN in what was learned: the clean image stands, and is judged."""
    model = LinearModel((6, 6, 1), 2, seed=18)
    clean = images(model.input_shape, 8, seed=19)
    attack = parse_spec("universal").attack
    engine = Engine(model, batch_size=8, pixels="uint8", seed=0)
    artefact, _ = fit(engine, attack, "linf", 0.1, lesson_of(model, clean))
    artefact.delta = np.full_like(artefact.delta, np.nan)
    for outcome in judge(
        engine, attack, "linf", {0.1: artefact}, subjects_of(model, clean, (0.1,))
    ):
        assert not outcome.success
        assert np.array_equal(outcome.point, clean[int(outcome.key)])


def test_the_split_is_even_nested_and_the_seeds():
    hashes = [f"{i:064x}" for i in range(4000)]
    places = {seed: np.array([place_in_split(seed, h) for h in hashes]) for seed in (0, 1)}
    assert abs((places[0] < 0.5).mean() - 0.5) < 0.03
    assert abs(((places[0] < 0.5) & (places[1] < 0.5)).mean() - 0.25) < 0.03
    assert ((places[0] < 0.3) <= (places[0] < 0.5)).all()


@pytest.mark.parametrize(
    ("spec", "norm", "what"),
    [
        ("universal:share=1", None, "share=1"),
        ("universal:norm=l1", None, "has no l1 form"),
        ("patch:eps=8/255", None, "has no norm, and so no eps"),
        ("patch:norm=l2", None, "has no l2 form"),
        ("patch:scale-min=0.6", None, "scale-min lies above scale-max"),
        ("advgan", "l2", "has no l2 form"),
        ("univrsal", None, "unknown attack"),
    ],
)
def test_what_is_refused(spec, norm, what):
    with pytest.raises(UsageError, match=what):
        parse_spec(spec, norm)


def test_the_norm_of_the_others_is_not_the_patchs():
    assert parse_spec("patch", "l2").norm is None


@pytest.mark.parametrize("change", ["missing", "damaged", "another shape", "not a number"])
def test_a_changed_file_is_refused(change, tmp_path):
    attack = parse_spec("universal").attack
    file = tmp_path / "universal.npy"
    value = np.zeros((4, 5, 3), np.float32)
    if change == "not a number":
        value[0] = np.nan
    np.save(file, value if change != "another shape" else value[:3])
    if change == "damaged":
        file.write_bytes(file.read_bytes()[:-7])
    if change == "missing":
        file.unlink()
    with pytest.raises(AdvcliError, match=r"universal\.npy"):
        attack.load(tmp_path, (4, 5, 3))

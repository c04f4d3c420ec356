"""The contract that every natural threat keeps, beside that of the attacks with norms."""

from __future__ import annotations

from collections import namedtuple

import numpy as np
import pytest

from advcli.attacks.registry import NAMES, NATURAL, is_natural, natural_class, parse_natural
from advcli.engine.transform import NaturalSubject, Transformer
from advcli.errors import UsageError

Answer = namedtuple("Answer", "prediction logits")
SHAPES = [(12, 12, 1), (9, 14, 3), (40, 36, 3)]
FAST = {"spatial": "spatial:rotations=5,shifts=3", "brightness": "brightness:step=8"}


def predict(pixels):
    """Three classes by brightness and contrast, which every threat can change."""
    flat = pixels.reshape(len(pixels), -1)
    value = flat.mean(axis=1) + 2 * (flat.std(axis=1) - 74)
    logits = np.stack([-np.abs(value - centre) for centre in (100.0, 128.0, 156.0)], axis=1)
    return Answer(logits.argmax(axis=1), logits)


def threat(name):
    return parse_natural(FAST.get(name, name))


def subjects_of(attack, shape, count=6):
    random = np.random.default_rng(3)
    images = [random.integers(0, 256, shape, np.uint8) for _ in range(count)]
    labels = predict(np.stack(images)).prediction
    return [
        NaturalSubject(str(i), image, int(label), f"hash {i}", attack.questions())
        for i, (image, label) in enumerate(zip(images, labels, strict=True))
    ]


def run(attack, subjects, *, batch=16, seed=0, threads=None, model=predict):
    transformer = Transformer(model, batch_size=batch, seed=seed, threads=threads)
    return {(o.key, o.question): o for o in transformer.run(attack, subjects)}


def test_names_are_natural_or_not():
    assert not set(NAMES) & set(NATURAL)
    assert all(is_natural(name) and is_natural(f"{name}:x=1") for name in NATURAL)
    assert not any(is_natural(name) for name in NAMES)
    for name in NATURAL:
        cls = natural_class(name)
        assert cls.kind == "natural"
        assert cls.norms == ()
        assert not cls.targetable


@pytest.mark.parametrize("name", NATURAL)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_question_is_answered_by_the_model_itself(name, shape):
    attack = threat(name)
    subjects = subjects_of(attack, shape)
    outcomes = run(attack, subjects)
    assert set(outcomes) == {(s.key, question) for s in subjects for question in attack.questions()}
    for (key, question), outcome in outcomes.items():
        subject = subjects[int(key)]
        assert outcome.point.dtype == np.uint8
        assert outcome.point.shape == shape
        assert outcome.prediction == predict(outcome.point[None]).prediction[0]
        assert outcome.success == (outcome.prediction != subject.label)
        assert 1 <= outcome.forwards <= question.pictures
        assert outcome.success or outcome.forwards == question.pictures
        delta = np.abs(outcome.point.astype(float) - subject.pixels) / 255
        assert outcome.distance["linf"] == pytest.approx(delta.max())
        assert outcome.distance["l2"] == pytest.approx(np.sqrt((delta**2).sum()))
    assert any(o.success for o in outcomes.values())


@pytest.mark.parametrize("name", NATURAL)
def test_order_subset_batch_and_threads_change_nothing(name):
    attack = threat(name)
    subjects = subjects_of(attack, SHAPES[1])
    whole = run(attack, subjects)
    for other in (
        run(attack, subjects[::-1], batch=7, threads=1),
        run(attack, subjects[2:4], batch=64, threads=3),
    ):
        for asked, outcome in other.items():
            before = whole[asked]
            assert np.array_equal(outcome.point, before.point)
            assert (outcome.success, outcome.prediction, outcome.found, outcome.forwards) == (
                *(before.success, before.prediction, before.found, before.forwards),
            )


@pytest.mark.parametrize("name", NATURAL)
def test_a_search_finds_the_first_picture_that_fools(name):
    attack = threat(name)
    for (key, question), outcome in run(attack, subjects_of(attack, SHAPES[0])).items():
        if question.pictures == 1:
            continue
        subject = subjects_of(attack, SHAPES[0])[int(key)]
        random = np.random.default_rng(0)
        tried = [attack.make(subject.pixels, question, p, random) for p in range(question.pictures)]
        assert np.array_equal(tried[0], subject.pixels)  # a clean mistake counts as one
        wrong = np.flatnonzero(predict(np.stack(tried)).prediction != subject.label)
        assert outcome.success == bool(len(wrong))
        if len(wrong):
            assert outcome.forwards == wrong[0] + 1
            assert outcome.found == attack.strength(SHAPES[0], wrong[0])
            assert np.array_equal(outcome.point, tried[wrong[0]])


@pytest.mark.parametrize("name", [n for n in NATURAL if n not in ("corruption", "spatial")])
def test_searches_go_upwards(name):
    attack = natural_class(name)()
    (question,) = attack.questions()
    sizes = [abs(attack.strength((30, 20, 3), place)) for place in range(question.pictures)]
    assert sizes[0] == 0
    assert sizes == sorted(sizes)


def test_the_seed_and_the_content_decide_and_nothing_else():
    attack = parse_natural("corruption:kinds=gaussian_noise,severity=3")
    alone = parse_natural("corruption:kinds=noise")
    subjects = subjects_of(attack, SHAPES[1], 1)
    question = attack.questions()[0]
    one = run(attack, subjects)["0", question].point
    among = run(alone, subjects_of(alone, SHAPES[1], 1))["0", question].point
    assert np.array_equal(one, among)
    assert not np.array_equal(one, run(attack, subjects, seed=1)["0", question].point)


def test_outputs_that_are_not_finite_are_no_success():
    def blind(pixels):
        answer = predict(pixels)
        return Answer(answer.prediction, np.full_like(answer.logits, np.nan))

    attack = parse_natural("contrast")
    for outcome in run(attack, subjects_of(attack, SHAPES[0]), model=blind).values():
        assert outcome.nonfinite
        assert not outcome.success


@pytest.mark.parametrize(
    ("spec", "part"),
    [
        ("corruption:kinds=rain", "'rain' is none of"),
        ("corruption:severity=6", "severity=6"),
        ("spatial:norm=l2", "has no norm"),
        ("blur:eps=0.1", "has no eps"),
        ("contrast:stepz=3", "no option 'stepz'"),
    ],
)
def test_wrong_options_are_refused(spec, part):
    with pytest.raises(UsageError) as caught:
        parse_natural(spec)
    assert part in caught.value.message


# --- each one, by hand -------------------------------------------------------------------------


def test_corruption_asks_for_kinds_by_name_and_group():
    asked = parse_natural("corruption:kinds=snow+noise,severity=2").questions()
    assert [q.kind for q in asked] == ["gaussian_noise", "shot_noise", "impulse_noise", "snow"]
    assert {q.severity for q in asked} == {2}
    assert len(parse_natural("corruption").questions()) == 95
    assert len(parse_natural("corruption:kinds=benchmark").questions()) == 75


def test_spatial_turns_and_moves_as_it_says():
    image = np.zeros((9, 9, 1), np.uint8)
    image[2, 4] = 255  # above the middle
    attack = parse_natural("spatial:rotation=90,rotations=3,shifts=3,shift=0.2223")
    (question,) = attack.questions()
    assert question.pictures == 27
    places = {tuple(np.round(attack.strength((9, 9, 1), p), 2)): p for p in range(27)}
    assert next(iter(places)) == (0.0, 0.0, 0.0)

    def bright(*wanted):
        made = attack.make(image, question, places[wanted], np.random.default_rng(0))
        return tuple(int(v) for v in np.argwhere(made[:, :, 0] > 200)[0])

    assert bright(0.0, 0.0, 0.0) == (2, 4)
    assert bright(90.0, 0.0, 0.0) == (4, 2)  # counter-clockwise: the top goes to the left
    assert bright(-90.0, 0.0, 0.0) == (4, 6)
    assert bright(0.0, 2.0, -2.0) == (4, 2)
    assert bright(90.0, 2.0, 0.0) == (6, 2)  # first turned, then moved


def test_spatial_fills_with_black_or_the_mirrored_picture():
    image = np.full((8, 8, 3), 200, np.uint8)
    for fill, darkest in (("black", 0), ("mirror", 200)):
        attack = parse_natural(f"spatial:rotations=1,shifts=3,shift=0.5,fill={fill}")
        (question,) = attack.questions()
        made = attack.make(image, question, question.pictures - 1, np.random.default_rng(0))
        assert made.min() == darkest


def test_brightness_tries_every_level_both_ways():
    attack = natural_class("brightness")()
    levels = [round(255 * attack.strength((2, 2, 1), p)) for p in range(7)]
    assert levels == [0, 1, -1, 2, -2, 3, -3]
    (question,) = attack.questions()
    image = np.array([[[250], [3]]], np.uint8)
    made = [attack.make(image, question, p, np.random.default_rng(0)).ravel() for p in (19, 20)]
    assert [m.tolist() for m in made] == [[255, 13], [240, 0]]


def test_contrast_ends_in_gray():
    attack = natural_class("contrast")()
    (question,) = attack.questions()
    image = np.array([[[0], [255], [100]]], np.uint8)
    half = attack.make(image, question, 50, np.random.default_rng(0)).ravel().tolist()
    assert half == [64, 191, 114]
    gray = attack.make(image, question, 100, np.random.default_rng(0))
    assert gray.max() - gray.min() == 0

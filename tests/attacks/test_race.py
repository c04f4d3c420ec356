"""Race beside AutoAttack's targeted ascents, and where it gives up."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from advcli.attacks.base import Row, Slope
from advcli.attacks.registry import parse_spec
from advcli.lazy import tf
from advcli.models.classifier import build
from advcli.models.loader import load
from advcli.models.preprocessing import PRESETS
from advcli.threats.losses import Goal
from advcli.threats.randomness import Random
from advcli.threats.space import Space
from tests.attacks.test_contract import attack, engine_of, subjects_of
from tests.models.support import ZOO, needs_zoo
from tests.support.digits import robust_digits

EPS = 0.15


@pytest.fixture(scope="module")
def robust():
    return robust_digits(5)


@pytest.fixture(scope="module")
def raced(robust):
    model, pixels = robust
    return attack(
        model, "race", "linf", subjects_of(model, pixels, (EPS,)), pixels="float", batch=64
    )


def fooled(outcomes):
    return {o.key for o in outcomes if o.success}


def test_fools_what_nine_targeted_ascents_fool_for_a_fraction_of_their_gradients(robust, raced):
    model, pixels = robust
    subjects = subjects_of(model, pixels, (EPS,))
    official = attack(
        model, "apgd-t", "linf", subjects, spec="apgd-t:steps=50", pixels="float", batch=64
    )
    assert 0.1 < len(fooled(official)) / len(subjects) < 0.6
    assert not fooled(official) - fooled(raced)
    spent, theirs = (np.mean([o.gradients for o in runs]) for runs in (raced, official))
    assert spent < theirs / 4


def test_gives_up_early_where_much_is_missing_and_goes_on_where_little_is(robust, raced):
    """What is given up on would not have been fooled by the long ascents either."""
    short = 2 * 9 + 3 * 6
    failed = [o.gradients for o in raced if not o.success]
    assert min(failed) == short
    assert max(failed) >= short + 40
    model, pixels = robust
    kept = [s for s in subjects_of(model, pixels, (EPS,)) if s.key not in fooled(raced)]
    stubborn = attack(
        model, "race", "linf", kept, spec="race:hopeless=1000", pixels="float", batch=64
    )
    # three ascents of 201 calls, none judged before its 101st
    longest = [o.gradients - short - 40 for o in stubborn]
    assert min(longest) >= 3 * 101
    assert max(longest) <= 3 * 201
    assert max(longest) > min(longest)
    assert not fooled(stubborn)


RACE = parse_spec("race:targets=4", "linf").attack
SPACE = Space("linf", (2, 2, 1))


def one_row():
    """A row of label 0, its state before the first step, and its random numbers."""
    x0 = tf.zeros([1, 2, 2, 1])
    one = tf.zeros([1], tf.int32)
    row = Row(x0, Goal(one, one - 1), tf.constant([0.1]), tf.zeros([1, 2], tf.uint32), one, x0)
    random = Random(row.key, one)
    return row, RACE.init(row, SPACE, random), random


def test_rivals_that_a_round_did_not_run_keep_their_order():
    """After the third round, which runs one, the last one takes the second best of the second."""
    row, state, _ = one_row()
    far = float("-inf")
    state = state._replace(
        order=tf.constant([[3, 1, 2, 0]]),
        lead=tf.constant([[far, far, far, -0.01]]),
        clean=tf.constant([-1.0]),
        peak=tf.constant([-0.01]),
        heat=state.heat + 2,
        call=state.call + 40,
    )
    after = RACE._next(row, state, tf.constant([True]), row.restart + 4, row.restart + 5, SPACE)
    assert after.state.order.numpy().tolist() == [[3, 1, 2, 0]]
    assert (after.state.heat.numpy(), after.done.numpy()) == ([3], [False])


LOGITS = tf.constant([[3.0, 1.0, 2.5, 0.0, -1.0]])


@pytest.mark.parametrize(
    ("turn", "climbed"),
    [(0, np.log(np.exp([1, 2.5, 0, -1]).sum()) - 3), (1, 0.0 - 3.0), (2, 2.5 - 3.0)],
)
def test_the_last_round_climbs_towards_all_classes_then_the_best_two(turn, climbed):
    row, state, random = one_row()
    state = state._replace(
        rivals=tf.constant([[2, 1, 3, 4]]),
        order=tf.constant([[2, 0, 1, 3]]),
        heat=state.heat + 3,
        turn=state.turn + turn,
    )
    seen = []
    RACE.step(row, state, row.restart + 100, SPACE, model_of(LOGITS, row, seen), random)
    assert seen == [pytest.approx(climbed, abs=1e-5)]


def model_of(logits, row, seen):
    """An oracle that always answers `logits`, and notes the loss that it is asked about."""

    class Model:
        resolution, transfer = 0.0, False

        def gradient(self, x, loss):
            seen.append(float(loss(logits, row.goal)[0]))
            return Slope(tf.constant([seen[-1]]), tf.ones_like(x), logits)

    return Model()


@pytest.mark.parametrize(("classes", "ascents"), [(2, 1), (3, 3), (5, 3)])
def test_the_last_round_has_as_many_ascents_as_there_are_directions(classes, ascents):
    """With one rival, towards it and towards all classes are the same."""
    row, state, random = one_row()
    state = state._replace(
        heat=state.heat + 2, peak=tf.constant([-1e-6]), clean=tf.constant([-1.0])
    )
    logits, ended = tf.constant([[3.0, 1.0, 2.5, 0.0, -1.0]])[:, :classes], []
    race = parse_spec("race:targets=4", "linf").attack
    while True:
        state = state._replace(call=row.restart + 200)  # its last
        step = race.step(row, state, row.restart + 100, SPACE, model_of(logits, row, []), random)
        if int(state.heat[0]) == 3:
            ended.append(int(state.turn[0]))
        state = step.state
        if bool(step.done[0]):
            break
    assert ended == list(range(ascents))


@needs_zoo
def test_an_image_that_only_the_long_ascents_fool_is_not_given_up_before_them():
    """A road sign that AutoAttack's untargeted ascents fool: a sixth of the gain is missing."""
    model = build(load(ZOO / "models/gtsrb-kdtec/model.h5"), PRESETS["raw"], confirm_batch=8)
    with Image.open(ZOO / "images/gtsrb/13/00026_00014.ppm") as image:
        pixels = np.asarray(image.convert("RGB").resize((30, 30), Image.Resampling.BILINEAR))[None]
    subjects = subjects_of(model, pixels, (2 / 255,))
    engine, race = engine_of(model, pixels="uint8", batch=8, seed=0), parse_spec("race", "linf")
    fooled = 0
    for engine.seed in range(6):
        fooled += sum(outcome.success for outcome in engine.run(race.attack, "linf", subjects))
    assert fooled >= 5

"""Out of memory: fewer rows at once, and nothing lost or answered twice."""

from __future__ import annotations

import threading

import pytest
import tensorflow as tf

from advcli.attacks.registry import parse_spec
from advcli.engine.jobs import Subject
from advcli.engine.run import Engine, halved
from advcli.errors import NoVerdictError
from tests.support.linear import LinearModel, images

SHAPE = (6, 6, 1)


class Cramped(LinearModel):
    """Asked about more than `room` points at once, TensorFlow reports that memory is exhausted.

    The first `calls` calls are free: memory runs out in the middle of a run.
    """

    def __init__(self, room: int, calls: int = 0) -> None:
        super().__init__(SHAPE, 3, seed=2)
        self.room, self.calls, self.asked = room, calls, []

    def logits(self, x):
        guarded = tf.numpy_function(self._guard, [tf.shape(x)[0]], tf.int32)
        with tf.control_dependencies([guarded]):
            return super().logits(tf.identity(x))

    def _guard(self, rows):
        self.asked.append(int(rows))
        if len(self.asked) > self.calls and rows > self.room:
            raise MemoryError("no room")  # TensorFlow makes a ResourceExhaustedError of it
        return rows


def run(model, spec, norm, eps, *, lanes=1, batch=32, count=60):
    clean = images(SHAPE, count, seed=3)
    labels = model.confirm(clean / 255.0).prediction
    pulled = []

    def stream():
        for i, (image, label) in enumerate(zip(clean, labels, strict=True)):
            pulled.append(i)
            yield Subject(str(i), image, int(label), f"content {i}", eps)

    engine = Engine(model, batch_size=batch, pixels="uint8", seed=0, lanes=lanes)
    shrunk = []
    engine.on_shrink = lambda attack: shrunk.append((attack.name, engine.batch_size, engine.lanes))
    found = {}
    for outcome in engine.run(parse_spec(spec, norm).attack, norm, stream()):
        assert (outcome.key, outcome.eps) not in found
        found[outcome.key, outcome.eps] = outcome
    assert len(found) == count * max(1, len(eps))
    assert pulled == list(range(count))
    assert engine.stats.row_steps == sum(o.steps for o in found.values())
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("lane")]
    return found, shrunk


def answers(found):
    return {key: (o.success, o.point.tobytes(), o.steps) for key, o in found.items()}


@pytest.mark.parametrize(
    ("spec", "norm", "eps"), [("pgd:restarts=2", "linf", (0.02, 0.06)), ("deepfool", "l2", ())]
)
def test_half_of_the_rows_go_on_where_all_of_them_failed(spec, norm, eps):
    free, _ = run(Cramped(32), spec, norm, eps)
    for lanes in (1, 2):
        model = Cramped(8, calls=9)
        found, shrunk = run(model, spec, norm, eps, lanes=lanes)
        assert shrunk == [(spec.split(":")[0], rows, lanes) for rows in (16, 8)]
        assert 32 in model.asked[:9]  # some were answered before memory ran out
        assert answers(found) == answers(free)


def test_what_was_answered_is_not_computed_again():
    """Each image's restarts take one step: what is asked beyond that is asked again."""
    spec, norm, eps = "noise:repeats=1", "linf", (0.02,)
    model = Cramped(8, calls=2)
    run(model, spec, norm, eps, batch=16, count=64)
    assert model.asked[:3] == [16, 16, 16]  # two ticks of 16 answered, the third failed
    assert model.asked[3:] == [8] * 4  # and only the other 32 are left


def test_eight_rows_come_down_to_one_lane_and_then_to_one_row():
    model = Cramped(1)
    _, shrunk = run(model, "noise:repeats=1", "linf", (0.02,), lanes=2, batch=8, count=9)
    assert shrunk == [("noise", 8, 1), ("noise", 1, 1)]


def test_points_of_one_image_are_halved_with_the_batch():
    _, shrunk = run(Cramped(32), "nes:samples=8,steps=2", "linf", (0.02,), batch=64, count=9)
    assert shrunk == [("nes", 16, 1)]  # of 8 points each 32 would still be eight images


def test_one_row_that_does_not_fit_is_an_error():
    with pytest.raises(NoVerdictError, match="one image at once, in noise") as caught:
        run(Cramped(0), "noise:repeats=1", "linf", (0.02,), batch=8, count=9)
    assert caught.value.exit_code == 3


def test_a_stream_that_runs_out_of_memory_is_not_read_on():
    """It would seem to end there, and the images after it would be missing."""
    model = Cramped(64)

    def stream():
        yield Subject("0", images(SHAPE, 1)[0], 0, "content", (0.02,))
        raise MemoryError("an image of a gigapixel")

    engine = Engine(model, batch_size=8, pixels="uint8", seed=0)
    with pytest.raises(MemoryError, match="gigapixel"):
        list(engine.run(parse_spec("noise").attack, "linf", stream()))


def test_halves_are_one_or_a_multiple_of_eight():
    assert [halved(rows) for rows in (128, 104, 24, 16, 8, 1)] == [64, 48, 8, 8, 1, 1]

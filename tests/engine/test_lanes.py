"""Lanes: several batches side by side change how long a run takes, and nothing else."""

from __future__ import annotations

import threading
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest

from advcli.attacks.registry import parse_spec
from advcli.engine.feed import Crew, Feed
from advcli.engine.jobs import Subject
from advcli.engine.lane import Lane
from advcli.engine.run import Engine
from tests.support.linear import LinearModel, images


def subjects_of(model, clean, eps):
    labels = model.confirm(clean / 255.0).prediction
    return [
        Subject(str(i), image, int(label), f"content {i}", eps)
        for i, (image, label) in enumerate(zip(clean, labels, strict=True))
    ]


@pytest.fixture(scope="module")
def model():
    return LinearModel((6, 6, 1), 3, seed=2)


def of_lanes():
    return [thread for thread in threading.enumerate() if thread.name.startswith("lane")]


@pytest.mark.parametrize(
    ("spec", "norm", "eps"),
    [
        ("pgd:restarts=2", "linf", (0.02, 0.06)),
        ("random-search:steps=60", "linf", (0.06,)),
        ("hopskipjump:iterations=2", "l2", ()),
    ],
)
def test_the_number_of_lanes_changes_no_bit(model, spec, norm, eps):
    clean = images(model.input_shape, 50, seed=3)
    found = []
    for lanes in (1, 2, 3):
        engine = Engine(model, batch_size=16, pixels="uint8", seed=0, lanes=lanes)
        outcomes = list(
            engine.run(parse_spec(spec, norm).attack, norm, subjects_of(model, clean, eps))
        )
        found.append(
            {(o.key, o.eps): (o.success, o.point.tobytes(), o.steps, o.forwards) for o in outcomes}
        )
        assert engine.stats.row_steps == sum(o.steps for o in outcomes)
        assert len(outcomes) == 50 * max(1, len(eps))
    assert found[0] == found[1] == found[2]
    assert not of_lanes()


def test_lanes_have_graphs_of_their_own_where_threads_may_not_share_one(monkeypatch, model):
    clean = images(model.input_shape, 40, seed=3)
    attack = parse_spec("pgd", "linf").attack
    found = []
    for own in (False, True):
        monkeypatch.setattr(model, "threads_at_once", not own)
        engine = Engine(model, batch_size=8, pixels="uint8", seed=0, lanes=2)
        first, second = (engine.slots_for(attack, "linf", lane) for lane in range(2))
        assert (first is second) != own
        outcomes = engine.run(attack, "linf", subjects_of(model, clean, (0.05,)))
        found.append({o.key: (o.success, o.point.tobytes(), o.steps) for o in outcomes})
    assert found[0] == found[1]
    assert len(found[0]) == 40


def test_work_is_shared_by_what_is_left_of_it():
    """A lane that took many images but is nearly done with them gets as much as an idle one."""
    blank = np.zeros((1, 1, 1), np.uint8)
    feed = Feed([Subject(str(i), blank, 0, "") for i in range(12)], lanes=2, ahead=64)
    feed.top_up()
    feed.holds(1, 0.5)
    first = [feed.take(0, idle=False) for _ in range(12)]
    assert sum(subject is not None for subject in first) == 7
    assert feed.take(1, idle=False) is not None


def test_a_lane_without_work_has_its_answers_confirmed_instead_of_waiting(monkeypatch, model):
    monkeypatch.setattr("advcli.engine.lane._WAIT_SECONDS", float("inf"))
    subjects = subjects_of(model, images(model.input_shape, 6, seed=3), (0.5,))

    class Slow(Feed):
        """Gives another image only to a lane that has none left."""

        def take(self, lane, idle):
            return subjects.pop() if subjects and idle else None

        def exhausted(self):
            return not subjects

    attack = parse_spec("fgsm").attack
    slots = Engine(model, batch_size=8, pixels="uint8", seed=0).slots_for(attack, "linf")
    feed = Slow([], lanes=1, ahead=1)
    lane = Lane(0, model, slots, attack, "linf", "uint8", 0, feed)
    lane.begin()
    told = [outcome.key for outcomes in islice(lane.ticks(), 20) for outcome in outcomes]
    assert sorted(told) == [str(n) for n in range(6)]


def test_an_error_in_a_lane_reaches_the_caller_and_ends_the_others(model):
    class Breaks(LinearModel):
        def confirm(self, x):
            if threading.current_thread().name.startswith("lane"):
                raise OSError("the disk is gone")
            return super().confirm(x)

    broken = Breaks((6, 6, 1), 3, seed=2)
    clean = images(broken.input_shape, 40)
    engine = Engine(broken, batch_size=8, pixels="uint8", seed=0, lanes=2)
    run = engine.run(parse_spec("pgd").attack, "linf", subjects_of(broken, clean, (0.5,)))
    with pytest.raises(OSError, match="the disk is gone"):
        list(run)
    assert not of_lanes()


def test_an_error_of_the_stream_reaches_the_caller_too(model):
    clean = images(model.input_shape, 40)

    def stream():
        yield from subjects_of(model, clean, (0.5,))
        raise OSError("the disk is gone")

    engine = Engine(model, batch_size=8, pixels="uint8", seed=0, lanes=2)
    with pytest.raises(OSError, match="the disk is gone"):
        list(engine.run(parse_spec("pgd").attack, "linf", stream()))
    assert not of_lanes()


def test_what_was_answered_is_told_before_an_error_of_the_stream():
    blank = np.zeros((1, 1, 1), np.uint8)

    def stream():
        yield Subject("0", blank, 0, "")
        raise OSError("the disk is gone")

    feed = Feed(stream(), lanes=2, ahead=1)

    class Lane:
        def ticks(self):
            feed.take(0, idle=False)  # so that the crew reads on
            yield ["an answer"]

    told = []

    def listen():
        for outcomes in Crew(feed, [Lane()]).outcomes():
            told.extend(outcomes)

    with pytest.raises(OSError, match="the disk is gone"):
        listen()
    assert told == ["an answer"]


def test_who_stops_listening_stops_the_lanes(model):
    clean = images(model.input_shape, 200)
    engine = Engine(model, batch_size=8, pixels="uint8", seed=0, lanes=2)
    # the first image is fooled at once, the others would take hours
    attack = parse_spec("pgd:steps=100000,restarts=1000").attack
    easy, *hard = subjects_of(model, clean, (1 / 255,))
    run = engine.run(attack, "linf", [replace(easy, eps=(1.0,)), *hard])
    next(run)
    assert of_lanes()
    run.close()
    assert not of_lanes()


def test_an_error_of_the_progress_bar_stops_the_lanes(model):
    def broken(_):
        raise RuntimeError("the terminal is gone")

    engine = Engine(model, batch_size=8, pixels="uint8", seed=0, lanes=2)
    attack = parse_spec("pgd:steps=100000,restarts=1000").attack
    subjects = subjects_of(model, images(model.input_shape, 200), (1 / 255,))
    with pytest.raises(RuntimeError, match="terminal") as caught:
        list(engine.run(attack, "linf", subjects, progress=broken))
    assert caught.tb  # it keeps the frames alive, and with them whatever was not closed
    assert not of_lanes()


def test_the_stream_is_read_by_the_caller_alone_and_not_far_ahead(model):
    clean = images(model.input_shape, 300)
    pulled, threads = [], set()

    def stream():
        for subject in subjects_of(model, clean, (0.5,)):
            pulled.append(subject.key)
            threads.add(threading.current_thread())
            yield subject

    engine = Engine(model, batch_size=8, pixels="uint8", seed=0, lanes=2)
    known = 0
    for _ in engine.run(parse_spec("pgd").attack, "linf", stream()):
        known += 1
        # 2 lanes × 8 slots, as many waiting, and what was answered since this thread last read;
        # 32 answers in each lane wait to be confirmed together
        assert len(pulled) - known <= 3 * 16 + 2 * 32
    assert known == 300
    assert threads == {threading.current_thread()}


def test_lanes_as_fast_as_the_stream_do_not_keep_their_answers_from_being_told():
    blank = np.zeros((1, 1, 1), np.uint8)
    read, told = [], []
    answered = threading.Semaphore(0)

    def stream():
        for number in range(50):
            if number >= 10:  # so many are read before a lane starts
                answered.acquire(timeout=1)  # the lane is as fast as the stream
            read.append(number)
            yield Subject(str(number), blank, 0, "")

    class Lane:
        def ticks(self):
            while (subject := feed.take(0, idle=True)) is not None:
                feed.holds(0, 0.0)
                yield [subject.key]
                answered.release()

    feed = Feed(stream(), lanes=2, ahead=10)
    behind = 0
    for outcomes in Crew(feed, [Lane()]).outcomes():
        behind = max(behind, len(read) - len(told))
        told.extend(outcomes)
    assert told == [str(number) for number in range(50)]
    assert behind <= 12


def test_few_images_are_shared_between_the_lanes():
    blank = np.zeros((1, 1, 1), np.uint8)
    feed = Feed([Subject(str(i), blank, 0, "") for i in range(7)], lanes=2, ahead=64)
    feed.top_up()
    first = [feed.take(0, idle=False) for _ in range(8)]
    second = [feed.take(1, idle=False) for _ in range(8)]
    assert [sum(s is not None for s in taken) for taken in (first, second)] == [4, 3]
    assert feed.exhausted()

"""A lane that has come to its end takes over half of what another has under way."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from advcli.attacks.registry import parse_spec
from advcli.engine.feed import Feed
from advcli.engine.jobs import Chain, Seat, Subject
from advcli.engine.narrowing import parted
from advcli.engine.run import Engine
from advcli.engine.slots import blank_orders
from advcli.engine.table import Table
from tests.support.digits import robust_digits
from tests.support.linear import LinearModel, images


def run(model, clean, spec, eps, lanes):
    engine = Engine(model, batch_size=32, pixels="uint8", seed=0, lanes=lanes)
    labels = model.confirm(clean / np.float32(255)).prediction
    subjects = [
        Subject(str(i), image, int(label), f"content {i}", eps)
        for i, (image, label) in enumerate(zip(clean, labels, strict=True))
    ]
    outcomes = list(engine.run(parse_spec(spec, "linf").attack, "linf", subjects))
    assert engine.stats.row_steps == sum(o.steps for o in outcomes)
    return {
        (o.key, o.eps): (o.success, o.point.tobytes(), o.steps, o.forwards, o.gradients)
        for o in outcomes
    }


@pytest.mark.parametrize(
    ("robust", "spec", "eps"),
    [
        (False, "pgd:steps=200", (0.01,)),
        (False, "pgd:restarts=2", (0.01,)),  # an image's jobs stay together
        (True, "race:steps=60,hopeless=1000", (0.13,)),  # rows that are divided
    ],
)
def test_what_is_handed_over_ends_as_it_would_have(monkeypatch, robust, spec, eps):
    if robust:
        model, clean = robust_digits(13)
    else:
        model = LinearModel((6, 6, 1), 3, seed=2)
        clean = images(model.input_shape, 16, seed=3)
    alone = run(model, clean, spec, eps, 1)

    arrived, handed = threading.Event(), []
    adopt, hand, wanted = Feed.adopt, Feed.hand, Feed.wanted

    def first_alone(self, lane, idle):
        """No image for the second lane."""
        if lane:
            return None
        with self._change:
            return self._waiting.popleft() if self._waiting else None

    monkeypatch.setattr(Feed, "take", first_alone)
    monkeypatch.setattr(Feed, "adopt", lambda self: arrived.set() or adopt(self))
    monkeypatch.setattr(Feed, "wanted", lambda self: arrived.wait(60) and wanted(self))
    monkeypatch.setattr(Feed, "hand", lambda self, rows: handed.append(rows) or hand(self, rows))
    assert run(model, clean, spec, eps, 2) == alone
    assert handed


def test_lanes_end_when_none_has_anything_left():
    feed = Feed([], lanes=3, ahead=1)
    ended = []
    threads = [threading.Thread(target=lambda: ended.append(feed.adopt())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert ended == [None] * 3


def test_who_waits_for_work_is_let_go_when_all_is_stopped():
    feed = Feed([], lanes=2, ahead=1)
    ended = []
    thread = threading.Thread(target=lambda: ended.append(feed.adopt()))
    thread.start()
    feed.stop()
    thread.join(60)
    assert ended == [None]


class Rows:
    """Slots whose rows are numbers."""

    multiple = 8

    def rows(self, carry, kept):
        return [carry[slot] for slot in kept]


def table_of(numbers, steps, width=16):
    """A row of each chain in `numbers`, the rest idle."""
    subject = Subject("a", np.zeros((1, 1, 1), np.uint8), 0, "")
    chains = {number: Chain(subject, len(numbers), "linf", 0) for number in numbers}
    table = Table.idle(list(range(width)), blank_orders(width, (1, 1, 1), "uint8", False))
    for slot, number in enumerate(numbers):
        table.seats[slot] = Seat(number, chains[number], chains[number].launch())
    table.k[: len(steps)] = steps
    return table


def rows_of(table):
    return [(table.carry[slot], seat.number) for slot, seat in table.seated()]


def test_every_other_image_goes_with_all_its_rows():
    table = table_of([7, 8, 9, 7, 8, 9, 9, 9, 9], [5, 40, 9, 6, 1, 30, 30, 30, 30])
    # in the order of what they have before them: 8 (1 step), 7, 9
    kept, given = parted(table, Rows(), set())
    assert rows_of(given) == [(0, 7), (3, 7)]
    assert rows_of(kept) == [(1, 8), (2, 9), (4, 8), (5, 9), (6, 9), (7, 9), (8, 9)]
    assert list(given.k[:2]) == [5, 6]
    assert given.width == kept.width == 16
    # nobody needs the other rows
    assert given.orders.drop.tolist() == [False] * 2 + [True] * 14
    assert np.flatnonzero(kept.orders.drop).tolist() == [0, 3]


def test_what_waits_for_its_confirmation_or_does_a_job_anew_stays():
    table = table_of(list(range(9)), list(range(9)))
    table.seats[0] = table.seats[0]._replace(alone=True)
    _, given = parted(table, Rows(), {1, 2, 3})
    assert [number for _, number in rows_of(given)] == [4, 6, 8]


@pytest.mark.parametrize("numbers", [[1] * 9, list(range(8))])
def test_nothing_is_handed_over_that_would_take_as_long(numbers):
    """One image; as many rows as the narrowest batch has, none of which can be divided."""
    table = table_of(numbers, [0] * len(numbers))
    assert parted(table, Rows(), set()) is None


def test_few_rows_are_shared_where_they_can_be_divided():
    table = table_of([1, 2], [0, 0])
    table.divisible = np.array([True] + [False] * 15)
    kept, given = parted(table, Rows(), set())
    assert (rows_of(kept), rows_of(given)) == ([(0, 1)], [(1, 2)])

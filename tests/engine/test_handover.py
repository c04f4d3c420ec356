"""At the end of a run rows go from lane to lane, and end as they would have where they were."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from advcli.attacks.registry import parse_spec
from advcli.engine.feed import Feed
from advcli.engine.jobs import Chain, Seat, Subject
from advcli.engine.narrowing import halved, joined, surplus, without
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

    arrived, given = threading.Event(), []
    handed, hand, idle_lane = Feed.handed, Feed.hand, Feed.idle_lane

    def first_alone(self, lane, idle):
        """No image for the second lane."""
        if lane:
            return None
        with self._change:
            return self._waiting.popleft() if self._waiting else None

    def told(self, lane, *, idle=False):
        if idle:
            arrived.set()
        return handed(self, lane, idle=idle)

    monkeypatch.setattr(Feed, "take", first_alone)
    monkeypatch.setattr(Feed, "handed", told)
    monkeypatch.setattr(Feed, "idle_lane", lambda self: arrived.wait(60) and idle_lane(self))
    monkeypatch.setattr(Feed, "hand", lambda self, *a: given.append(a) or hand(self, *a))
    assert run(model, clean, spec, eps, 2) == alone
    assert given


def test_rows_that_fill_up_another_batch_end_as_they_would_have(monkeypatch):
    """Two lanes with 9 and 12 rows: one of the first makes room for a batch of eight."""
    model = LinearModel((6, 6, 1), 3, seed=2)
    clean = images(model.input_shape, 21, seed=3)
    spec, eps = "pgd:steps=300", (0.01,)
    alone = run(model, clean, spec, eps, 1)
    offered, given = threading.Event(), []
    offers, claim, hand = Feed.offers, Feed.claim, Feed.hand

    def shared(self, lane, idle):
        with self._change:
            most = 9 if lane == 0 else 12
            taken = seats.setdefault(lane, 0)
            if taken == most or not self._waiting:
                return None
            seats[lane] += 1
            return self._waiting.popleft()

    def offer(self, lane, room):
        offers(self, lane, room)
        if lane == 1:
            offered.set()

    seats = {}
    monkeypatch.setattr(Feed, "take", shared)
    monkeypatch.setattr(Feed, "offers", offer)
    monkeypatch.setattr(
        Feed, "claim", lambda self, lane, n: lane == 0 and offered.wait(60) and claim(self, lane, n)
    )
    monkeypatch.setattr(Feed, "hand", lambda self, *a: given.append(a) or hand(self, *a))
    assert run(model, clean, spec, eps, 2) == alone
    assert given


def test_lanes_end_when_none_has_anything_left():
    feed = Feed([], lanes=3, ahead=1)
    ended = []

    def work(lane):
        ended.append(feed.handed(lane, idle=True))

    threads = [threading.Thread(target=work, args=(lane,)) for lane in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert ended == [[], [], []]


def test_who_waits_for_work_is_let_go_when_all_is_stopped():
    feed = Feed([], lanes=2, ahead=1)
    ended = []
    thread = threading.Thread(target=lambda: ended.append(feed.handed(0, idle=True)))
    thread.start()
    feed.stop()
    thread.join(60)
    assert ended == [[]]


def test_room_is_claimed_once_and_not_in_both_directions():
    feed = Feed([], lanes=3, ahead=1)
    feed.offers(0, 7)
    feed.offers(1, 6)
    assert feed.claim(0, 1) == 1
    assert feed.claim(1, 2) is None  # the first is full now
    assert feed.claim(2, 5) == 1
    assert feed.claim(2, 1) is None


class Rows:
    """Slots whose rows are numbers."""

    multiple, slots = 8, 32

    def __init__(self, **agrees):
        self.agrees = {int(width[1:]): same for width, same in agrees.items()}

    def rows(self, carry, kept):
        return [carry[slot] for slot in kept]

    def spliced(self, carry, more, places):
        carry = list(carry)
        for place, row in zip(places, more, strict=True):
            carry[place] = row
        return carry


def table_of(numbers, steps, width=16, first=0):
    """A row of each chain in `numbers`, the rest idle."""
    subject = Subject("a", np.zeros((1, 1, 1), np.uint8), 0, "")
    chains = {number: Chain(subject, len(numbers), "linf", 0) for number in numbers}
    orders = blank_orders(width, (1, 1, 1), "uint8", False)
    table = Table.idle(list(range(first, first + width)), orders)
    for slot, number in enumerate(numbers):
        table.seats[slot] = Seat(number, chains[number], chains[number].launch())
    table.k[: len(steps)] = steps
    return table


def rows_of(table):
    return [(table.carry[slot], seat.number) for slot, seat in table.seated()]


def test_every_other_image_goes_with_all_its_rows():
    table = table_of([7, 8, 9, 7, 8, 9, 9, 9, 9], [5, 40, 9, 6, 1, 30, 30, 30, 30])
    # in the order of what they have before them: 8 (1 step), 7, 9
    given = halved(table, Rows(), set())
    assert rows_of(given) == [(0, 7), (3, 7)]
    assert list(given.k) == [5, 6]
    assert rows_of(table) == [(1, 8), (2, 9), (4, 8), (5, 9), (6, 9), (7, 9), (8, 9)]
    assert np.flatnonzero(table.orders.drop).tolist() == [0, 3]
    assert not given.orders.drop.any()


def test_what_waits_for_its_confirmation_or_does_a_job_anew_stays():
    table = table_of(list(range(9)), list(range(9)))
    table.seats[0] = table.seats[0]._replace(alone=True)
    given = halved(table, Rows(), {1, 2, 3})
    assert [number for _, number in rows_of(given)] == [4, 6, 8]


@pytest.mark.parametrize("numbers", [[1] * 9, list(range(8))])
def test_nothing_is_handed_over_that_would_take_as_long(numbers):
    """One image; as many rows as the narrowest batch has, none of which can be divided."""
    assert halved(table_of(numbers, [0] * len(numbers)), Rows(), set()) is None


def test_few_rows_are_shared_where_they_can_be_divided():
    table = table_of([1, 2], [0, 0])
    table.divisible[0] = True
    given = halved(table, Rows(), set())
    assert (rows_of(table), rows_of(given)) == ([(0, 1)], [(1, 2)])


def test_what_is_too_much_for_a_narrower_batch_goes_in_whole_chains():
    table = table_of([1, 1, 2, 3, 4, 5, 6, 7, 8, 9], [])
    assert surplus(table, Rows()) == 2
    assert rows_of(without(2, table, Rows(), set())) == [(0, 1), (1, 1)]
    assert surplus(table, Rows()) == 0
    assert without(1, table_of([1] * 9, []), Rows(), set()) is None
    table.free(9)
    assert surplus(table, Rows()) == 7
    table.divisible[5] = True  # then its own rows fill the batch
    assert surplus(table, Rows()) == 0
    table.free(5)
    assert surplus(table, Rows()) == 6


def test_rows_are_put_where_nobody_sits():
    table = table_of([1, 2, 3], [1, 2, 3], width=8)
    table.free(1)
    more = without(2, table_of([4, 5], [40, 50], first=100), Rows(), set())
    more.divisible[1] = True
    table = joined(table, more, Rows())
    assert rows_of(table) == [(0, 1), (100, 4), (2, 3), (101, 5)]
    assert table.k[:4].tolist() == [1, 40, 3, 50]
    assert table.divisible.tolist() == [False] * 3 + [True] + [False] * 4
    assert not table.orders.drop.any()


@pytest.mark.parametrize(("agrees", "width"), [({}, 32), ({"w24": True}, 24), ({"w16": True}, 16)])
def test_a_batch_grows_to_a_width_that_is_known_to_change_nothing(agrees, width):
    more = without(4, table_of([4, 5, 6, 7], [], first=100), Rows(), set())
    table = joined(table_of([1, 2, 3, 9, 10], [], width=8), more, Rows(w8=True, **agrees))
    assert table.width == width
    assert [number for _, number in rows_of(table)] == [1, 2, 3, 9, 10, 4, 5, 6, 7]
    # nobody needs the others
    assert table.orders.drop.tolist() == [False] * 9 + [True] * (width - 9)

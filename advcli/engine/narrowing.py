"""The end of a run, when nothing is left to refill slots with: fewer slots, few of them idle.

A width other than the full one is used where it changes no bit: another batch size may go through
another kernel, which adds in another order. That does not depend on the data, so one step of real
rows shows it.
"""

from __future__ import annotations

import numpy as np

from advcli.engine.slots import Carry, Slots
from advcli.engine.table import Table
from advcli.lazy import tf

_FOREVER = int(np.iinfo(np.int32).max)


def divided(table: Table, slots: Slots) -> tuple[Table, list[int]]:
    """Rows share what they have left with rows that nobody needs.

    A few rows cost nearly what two dozen do, and the last of them would be long on its way.
    Where a width is not known yet: the table as it is, and the slots to be tried.
    """
    while slots.multiple and table.divisible.any():
        busy = [slot for slot, _ in table.seated()]
        shared = [
            slot
            for slot, seat in table.seated()
            if table.divisible[slot] and not seat.alone and not table.orders.refill[slot]
        ]
        width = _agreeing(len(busy) + len(shared), slots)
        shared = shared[: width - len(busy)]
        if not shared:
            break
        parts = len(busy) + len(shared)
        kept = busy + shared + busy[:1] * (width - parts)
        if width < slots.slots and width not in slots.agrees:
            return table, kept
        table = table.kept(kept, slots)
        table.carry, table.divisible = slots.halves(
            table.carry,
            first=[slot in shared for slot in busy] + [False] * (width - len(busy)),
            rest=[len(busy) <= place < parts for place in range(width)],
        )
        for place in range(len(busy), width):
            seat = table.seats[place]
            if place < parts and seat is not None:
                part = seat.chain.divide(seat.job.index)
                table.seats[place] = seat._replace(part=part, since=int(table.k[place]))
            else:
                table.free(place)
    return table, []


def halved(table: Table, slots: Slots, staying: set[int]) -> Table | None:
    """Takes the rows of every other chain out, for a lane without work; None: it saves nothing.

    All rows of a chain go together, and those of the chains `staying` stay.
    """
    rows = _movable(table, staying)
    busy = sum(1 for _ in table.seated())
    if not slots.multiple or not (busy > slots.multiple or table.divisible.any()):
        return None
    # by turns, those with most before them first
    order = sorted(rows, key=lambda number: min(table.k[slot] for slot in rows[number]))
    first = 1 if sum(map(len, rows.values())) == busy else 0
    return _taken([slot for number in order[first::2] for slot in rows[number]], table, slots)


def surplus(table: Table, slots: Slots) -> int:
    """How many rows too many there are for a narrower batch; 0 where they could share more work."""
    if not slots.multiple or table.divisible.any():
        return 0
    return sum(1 for _ in table.seated()) % slots.multiple


def without(count: int, table: Table, slots: Slots, staying: set[int]) -> Table | None:
    """Takes `count` rows out, see `halved`; None where no chains have just as many."""
    chosen: list[int] = []
    for rows in _movable(table, staying).values():
        if len(chosen) + len(rows) <= count:
            chosen += rows
    return _taken(chosen, table, slots) if len(chosen) == count else None


def joined(table: Table, more: Table, slots: Slots) -> Table:
    """The table with the rows of `more` where nobody sits, in a wider batch if need be."""
    busy = [slot for slot, _ in table.seated()]
    rows = len(busy) + more.width
    if rows > table.width:
        known = [width for width, same in dict(slots.agrees).items() if same and width >= rows]
        table = table.kept(busy + [0] * (min(known, default=slots.slots) - len(busy)), slots)
        for place in range(len(busy), table.width):
            table.free(place)
    free = [slot for slot, seat in enumerate(table.seats) if seat is None]
    table.put(more, free[: more.width], slots)
    return table


def _movable(table: Table, staying: set[int]) -> dict[int, list[int]]:
    """The rows of each chain that may go, none of which does a job anew or is to begin one."""
    rows: dict[int, list[int]] = {}
    for slot, seat in table.seated():
        rows.setdefault(seat.number, []).append(slot)
        if seat.alone or table.orders.refill[slot]:
            staying = staying | {seat.number}
    return {number: slots for number, slots in rows.items() if number not in staying}


def _taken(rows: list[int], table: Table, slots: Slots) -> Table | None:
    """The rows as a table of their own, their slots free; None without any."""
    if not rows:
        return None
    taken = table.kept(rows, slots)
    for slot in rows:
        table.free(slot)
    return taken


def narrower(table: Table, slots: Slots) -> int:
    """The largest width worth coming down to once the rest of the run fits into it; 0: none.

    What it saves is bounded by the steps that the seated jobs have left. It has to be worth a
    step, and twice the one that shows whether the width computes the same bits.
    """
    # a copy: the lanes share what they know of widths
    agrees = dict(slots.agrees)
    if not slots.multiple or sum(not same for same in agrees.values()) > 1:
        return 0
    left = slots.length - min((int(table.k[slot]) for slot, _ in table.seated()), default=0)
    width = table.width
    for narrow in range((width - 1) // slots.multiple * slots.multiple, 0, -slots.multiple):
        price = width if agrees.get(narrow) else width + 2 * narrow
        if agrees.get(narrow) is not False and (width - narrow) * left > price:
            return narrow
    return 0


def narrowed(table: Table, slots: Slots) -> tuple[Table, list[int]]:
    """The table without the slots that nothing is left for, as far as that changes no bit.

    Where that is not known yet: the table as it is, and the slots that would stay, to be tried.
    """
    while limit := narrower(table, slots):
        busy = [slot for slot, _ in table.seated()]
        width = _agreeing(max(1, len(busy)), slots)
        if width > limit:
            break
        idle = [slot for slot, seat in enumerate(table.seats) if seat is None]
        kept = (busy + idle)[:width]
        if width not in slots.agrees:
            return table, kept
        table = table.kept(kept, slots)
    return table, []


def try_width(before: Table, after: Carry, kept: list[int], slots: Slots) -> None:
    """Notes whether the rows `kept` alone come, bit for bit, from `before` to `after`, a step."""
    slim = slots.tick(slots.rows(before.carry, kept), before.ordered(kept), 1, _FOREVER, 0)
    pairs = zip(tf.nest.flatten(slots.rows(after, kept)), tf.nest.flatten(slim.carry), strict=True)
    slots.agrees[len(kept)] = all(bool(tf.reduce_all(tf.equal(a, b))) for a, b in pairs)


def _agreeing(rows: int, slots: Slots) -> int:
    """The least width for `rows` rows that is not known to change bits."""
    width = -(-rows // slots.multiple) * slots.multiple
    while slots.agrees.get(width) is False:
        width += slots.multiple
    return min(width, slots.slots)

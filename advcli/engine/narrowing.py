"""The end of a run, when nothing is left to refill slots with: fewer slots, none of them idle.

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
    while slots.multiple and table.divisible.size:
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


def parted(table: Table, slots: Slots, staying: set[int]) -> tuple[Table, Table] | None:
    """The rows in two tables, one of them for another lane; None where that would save nothing.

    All rows of a chain go together, and those of the chains `staying` stay.
    """
    busy = list(table.seated())
    if not slots.multiple or not (len(busy) > slots.multiple or table.divisible.any()):
        return None
    staying = staying | {
        seat.number for slot, seat in busy if seat.alone or table.orders.refill[slot]
    }
    # by turns, those with most before them first
    numbers = dict.fromkeys(seat.number for _, seat in sorted(busy, key=lambda b: table.k[b[0]]))
    going = [number for number in numbers if number not in staying]
    going = going[len(numbers) == len(going) :: 2]
    rows = [slot for slot, seat in busy if seat.number in going]
    if not rows:
        return None
    given = table.kept((rows * table.width)[: table.width], slots)
    for slot in range(len(rows), table.width):
        given.free(slot)
    for slot in rows:
        table.free(slot)
    return table, given


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

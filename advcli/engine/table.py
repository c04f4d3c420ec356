"""The rows of a lane: who sits in which slot, what the host wants of it, and where it stands."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from advcli.engine.jobs import Seat
from advcli.engine.slots import Carry, Orders, Slots


@dataclass(slots=True)
class Table:
    """Leading axis of everything: the slots, S of them."""

    carry: Carry
    orders: Orders
    seats: list[Seat | None]
    refused: list[int]  # successes that were not confirmed
    k: np.ndarray  # int32 [S], steps taken
    divisible: np.ndarray  # bool [S], rows that can share what they have left

    @classmethod
    def idle(cls, carry: Carry, orders: Orders) -> Table:
        """Nobody sits anywhere."""
        width = len(orders.refill)
        nobody: list[Seat | None] = [None] * width
        return cls(
            carry, orders, nobody, [0] * width, np.zeros(width, np.int32), np.zeros(width, np.bool_)
        )

    @property
    def width(self) -> int:
        """How many slots there are."""
        return len(self.seats)

    def seated(self) -> Iterator[tuple[int, Seat]]:
        """The slots that somebody sits in."""
        return ((slot, seat) for slot, seat in enumerate(self.seats) if seat is not None)

    def free(self, slot: int) -> None:
        """Nobody needs what the row does."""
        self.seats[slot], self.divisible[slot] = None, False
        self.orders.resume[slot], self.orders.drop[slot] = False, True

    def obeyed(self) -> None:
        """The orders were given."""
        for flag in (self.orders.refill, self.orders.resume, self.orders.drop):
            flag[:] = False

    def kept(self, kept: list[int], slots: Slots) -> Table:
        """The rows `kept` alone, in that order; a row may be there twice."""
        return Table(
            slots.rows(self.carry, kept),
            self.ordered(kept),
            [self.seats[slot] for slot in kept],
            [self.refused[slot] for slot in kept],
            self.k[kept],
            self.divisible[kept],
        )

    def put(self, more: Table, places: list[int], slots: Slots) -> None:
        """The rows of `more` into the slots `places`."""
        self.carry = slots.spliced(self.carry, more.carry, places)
        for mine, theirs in zip(self.orders, more.orders, strict=True):
            mine[places] = theirs
        for place, seat, refused in zip(places, more.seats, more.refused, strict=True):
            self.seats[place], self.refused[place] = seat, refused
        self.k[places], self.divisible[places] = more.k, more.divisible

    def ordered(self, kept: list[int]) -> Orders:
        """The orders for the rows `kept`."""
        return Orders(*(part[kept] for part in self.orders))

"""Waivers: a gate whose failure is accepted until a date, for a reason that every report shows.

A waiver accepts a failure, not a missing verdict. It holds on its last day (UTC) and not after.
"""

from __future__ import annotations

import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

__all__ = ["StatedGate", "Waiver", "accepted", "settled", "today"]

State = Literal["accepted", "unneeded", "undecided", "expired"]


class Waiver(BaseModel):
    """Until when, that day included, a failure is accepted, and why."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    until: datetime.date
    reason: str


class StatedGate(BaseModel):
    """A gate of the configuration file: as `--fail-under` would state it, where it stands, and its
    waiver."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    gate: str
    where: str = "[[gates]]"
    accept: Waiver | None = None


def today() -> datetime.date:
    """The date that waivers are judged on, in UTC."""
    return datetime.datetime.now(datetime.UTC).date()


def settled(waiver: Waiver | None, verdict: str, day: datetime.date) -> dict[str, Any] | None:
    """What a gate's row says of its waiver: `{reason, until, state}`; None without one.

    `accepted`: the gate failed, and that does not count. `unneeded`: it passed. `undecided`: it
    has no verdict. `expired`: `day` lies after the last day, and the gate counts, whatever it says.
    """
    if waiver is None:
        return None
    states: dict[str, State] = {"fail": "accepted", "pass": "unneeded"}
    state = "expired" if day > waiver.until else states.get(verdict, "undecided")
    return {"reason": waiver.reason, "until": waiver.until.isoformat(), "state": state}


def accepted(row: dict[str, Any]) -> bool:
    """Whether a gate's row is a failure that is accepted."""
    waiver = row.get("waiver")
    return waiver is not None and bool(waiver["state"] == "accepted")

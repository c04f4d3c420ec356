"""`--shard i/n`: which part of the images a run sees, and what n such runs must have in common."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from advcli.attacks.fitted import FittedAttack
from advcli.audit.journal import dumps
from advcli.audit.plan import AuditConfig, Phase
from advcli.errors import UsageError
from advcli.images.sample import WHOLE, Shard

__all__ = ["check_divisible", "listing", "parse_shard", "shard_of"]

_MOST = 100_000


def parse_shard(text: str) -> Shard:
    """`2/8`: the second of eight parts. Raises UsageError."""
    index, slash, count = text.strip().partition("/")
    numbers = [int(n) if n.isdecimal() and len(n) < 7 else 0 for n in (index, count)]
    if not slash or not 1 <= numbers[0] <= numbers[1] <= _MOST:
        raise UsageError(
            f"--shard {text}: is no part", "write i/n with i from 1 to n: --shard 1/4 … --shard 4/4"
        )
    return Shard(*numbers)


def shard_of(config: AuditConfig) -> Shard:
    """The part that a run sees; the whole where it has no --shard."""
    return WHOLE if config.shard is None else parse_shard(config.shard)


def check_divisible(config: AuditConfig, phases: Sequence[Phase], images: int) -> None:
    """Raises UsageError where a run of some images is not part of a run of all."""
    shard = shard_of(config)
    if shard is WHOLE and config.time_budget is None:
        return
    option = "--time-budget" if shard is WHOLE else f"--shard {config.shard}"
    for phase in phases:
        if isinstance(phase.attack, FittedAttack):
            raise UsageError(
                f"{option}: '{phase.attack.name}' learns from the whole folder, not from parts",
                f"run it without {option.split(' ')[0]}",
            )
    if not shard.share(min(images, config.limit or images)):
        raise UsageError(
            f"{option}: no image is left for this part",
            f"there are {min(images, config.limit or images)} to be shared: use fewer parts",
        )


def listing(paths: Iterable[str]) -> str:
    """One hash for a set of images, by their paths."""
    return hashlib.sha256(dumps(sorted(paths)).encode()).hexdigest()

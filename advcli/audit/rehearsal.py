"""`--dry-run`: what a run would do, how many model calls at most, and how long that would take.

The model is loaded and its preprocessing chosen, as in the run itself; one gradient and one forward
of a batch are measured. No attack is run and nothing is written. The time is that of every search
going to its end: images that are fooled early, and those that a cascade's earlier attacks fool,
cost less.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from advcli.attacks.fitted import FittedAttack
from advcli.audit.probes import planned
from advcli.audit.run import Plan
from advcli.audit.setup import stream_of
from advcli.lazy import tf
from advcli.models.paths import compiled
from advcli.threats.budget import Norm
from advcli.threats.space import Space

__all__ = ["rehearse"]

_TURNS = 3


def rehearse(plan: Plan) -> dict[str, Any]:
    """The plan as one JSON object: `jobs` in the order of the run, `total`, `step`, `images`.

    `seconds` are None of a fitted attack, whose learning was not measured.
    """
    bench, engine = plan.bench, plan.engine
    images = stream_of(plan.config, bench.folder, bench.input_shape).count
    gradient, forward = _measured(plan)
    jobs: list[dict[str, Any]] = []

    def add(
        attack: str,
        norm: Norm | None,
        eps: Sequence[float],
        seen: int,
        calls: tuple[int, int],
        *,
        timed: bool = True,
    ) -> None:
        forwards, gradients = calls  # a gradient counts as one forward too
        seconds = gradients * gradient + (forwards - gradients) * forward
        jobs.append(
            {
                "attack": attack,
                "norm": norm,
                "eps": list(eps),
                "images": seen,
                "forwards_at_most": forwards,
                "gradients_at_most": gradients,
                "seconds_at_most": seconds if timed else None,
            }
        )

    for phase in plan.phases:
        forwards, gradients = phase.attack.cost(Space(phase.norm or "linf", bench.input_shape))
        asked = images * len(phase.questions)  # also those that a run has answered already
        calls = asked * forwards, asked * gradients
        timed = not isinstance(phase.attack, FittedAttack)
        add(phase.spec, phase.norm, phase.eps, images, calls, timed=timed)
    for threat in plan.natural:
        each = threat.attack.cost(Space("linf", bench.input_shape))[0]
        add(threat.spec, None, (), images, (images * each, 0))
    config = plan.config
    if config.soundness == "full" and not (
        config.time_budget or config.surrogate or config.targeted
    ):
        for norm, eps, sample, calls in planned(plan.phases, images, engine):
            add("soundness", norm, (eps,), sample, calls)
    known = [job["seconds_at_most"] for job in jobs if job["seconds_at_most"] is not None]
    return {
        "dry_run": True,
        "model": plan.run["model"],
        "images": {"root": str(bench.folder.root), "evaluated": images},
        "cascade": bool(plan.phases) and plan.phases[0].cascade,
        "jobs": jobs,
        "total": {
            "forwards_at_most": images + sum(job["forwards_at_most"] for job in jobs),
            "gradients_at_most": sum(job["gradients_at_most"] for job in jobs),
            "seconds_at_most": sum(known) + images * forward,
        },
        "step": {
            "batch_size": engine.batch_size,
            "gradient_seconds": gradient * engine.batch_size,
            "forward_seconds": forward * engine.batch_size,
            "compiled": bench.compiled,
            "device": bench.device,
        },
        "soundness": [dict(found) for found in bench.findings],
    }


def _measured(plan: Plan) -> tuple[float, float]:
    """Seconds of one image's gradient and forward, in a full batch of the model attacked."""
    crafting, rows = plan.bench.crafting, plan.engine.batch_size
    sample = plan.bench.sample.pixels[np.arange(rows) % len(plan.bench.sample.pixels)]
    x = sample.astype(np.float32) / np.float32(255)
    y = np.zeros(rows, np.int64)
    both = compiled(crafting, bool(crafting.jit_compile))
    logits = tf.function(crafting.logits, autograph=False, jit_compile=bool(crafting.jit_compile))
    # `both` has two gradients of one forward
    forward = _least(lambda: logits(tf.constant(x)).numpy())
    gradient = (_least(lambda: both(x, y)) + forward) / 2
    return gradient / rows, forward / rows


def _least(call: Callable[[], object]) -> float:
    """The least of a few times, the first one (tracing) left out."""
    call()
    taken = []
    for _ in range(_TURNS):
        began = time.perf_counter()
        call()
        taken.append(time.perf_counter() - began)
    return min(taken)

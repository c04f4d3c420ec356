"""Norms and budgets as a user writes them: `8/255`, `0.03`, `l2`. No TensorFlow here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, get_args

from advcli.errors import UsageError

Norm = Literal["linf", "l2", "l1", "l0"]
NORMS: tuple[Norm, ...] = get_args(Norm)


def parse_norm(text: str) -> Norm:
    """`linf`, `l2`, `l1` or `l0`, in any case."""
    for norm in NORMS:
        if text.strip().lower() == norm:
            return norm
    raise UsageError(f"unknown norm '{text}'", f"use one of {', '.join(NORMS)}")


def parse_eps(text: str) -> float:
    """One budget, in pixel space: a number or a fraction such as `8/255`."""
    numerator, _, denominator = text.strip().partition("/")
    try:
        value = float(numerator) / (float(denominator) if denominator else 1.0)
    except (ValueError, ZeroDivisionError):
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise UsageError(
            f"'{text}' is no perturbation budget",
            "write a positive number or fraction, e.g. --eps 8/255 or --eps 0.03",
        )
    return value


def parse_eps_list(text: str) -> tuple[float, ...]:
    """`1/255,2/255` -> both, ascending, without repetitions."""
    found = sorted(parse_eps(part) for part in text.split(",") if part.strip())
    if not found:
        raise UsageError("--eps names no budget", "write e.g. --eps 8/255, or leave --eps away")
    return tuple(
        eps for n, eps in enumerate(found) if n + 1 == len(found) or not same_eps(eps, found[n + 1])
    )


def check_eps(eps: float, norm: Norm) -> None:
    """Refuse a budget that means nothing in `norm` (8 for 8/255 is the usual slip)."""
    if norm == "linf" and eps > 1:
        raise UsageError(
            f"eps {eps:g} exceeds 1, the whole range of a pixel, in linf",
            f"budgets are fractions of the pixel range: --eps {eps:g}/255",
        )
    if norm == "l0" and (eps < 1 or eps != int(eps)):
        raise UsageError(f"eps {eps:g} is no count of pixels", "with --norm l0, --eps is 1, 2, …")


def whole_levels(eps: float) -> int:
    """How many 8-bit levels fit into a budget: 8 into 8/255, 7 into 0.03137, a hair below it."""
    return math.floor(eps * 255 * (1 + 1e-6))


def default_eps(norm: Norm, input_shape: Sequence[int]) -> float:
    """The usual budget in `norm`, scaled from CIFAR-10's 3072 values to `input_shape` (H, W, C)."""
    height, width, channels = input_shape
    d = height * width * channels
    if norm == "linf":
        return 8 / 255
    if norm == "l2":
        return 0.5 * math.sqrt(d / 3072)
    if norm == "l1":
        return 12 * d / 3072
    return float(max(1, round(0.01 * height * width)))


def format_eps(eps: float) -> str:
    """The shortest way to write `eps`: `8/255` where it is a whole number of 8-bit steps."""
    steps = eps * 255
    if eps < 1 and abs(steps - round(steps)) < 1e-6 and round(steps) > 0:
        return f"{round(steps)}/255"
    return f"{eps:.6g}"


def same_eps(a: float, b: float) -> bool:
    """Whether two budgets, however written, are one."""
    return math.isclose(a, b, rel_tol=1e-6)

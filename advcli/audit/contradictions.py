"""Attacks of one run that contradict one another: what should be stronger was not.

An attack that follows the model's gradient sees more than one that does not, and a loss that does
not depend on the logits' scale cannot be blinded by it. Where the weaker one wins on the same
images, the gradient was masked. The figures of the worst case count both, but what the blind
attack missed elsewhere nobody knows.

Sources: Carlini et al., 1902.06705; Croce & Hein, AutoAttack's checks.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from advcli.attacks.base import Attack
from advcli.audit.ledger import Answer, Ledger
from advcli.audit.plan import Phase, budgets
from advcli.audit.statistics import mcnemar
from advcli.threats.budget import Norm, format_eps, same_eps
from advcli.threats.space import Space

__all__ = ["contradictions"]

_IMAGES = 3
_P_VALUE = 0.01
_CASCADE_SHARE = 0.002  # AutoAttack's, of Square at its end
_LOSS_SHARE = 0.1  # on honest models a margin loss fools a few per cent more
_GRADIENTS = 30  # an attack that may take fewer misses what a thousand queries find
_SHAPE = (32, 32, 3)  # any: an attack's gradients hardly depend on it

Fooled = dict[str, bool]  # image -> whether one of some attacks fooled it


def contradictions(ledger: Ledger, phases: Sequence[Phase]) -> Iterator[tuple[str, str]]:
    """(check, what was seen) wherever an attack did what its rivals should have done."""
    searches = [p for p in phases if isinstance(p.attack, Attack) and p.norm is not None]
    seen: set[str] = set()
    for norm, eps in budgets(searches):
        at = [p for p in searches if _speaks(p, norm, eps)]
        for check, detail in _at(ledger, at, f"{norm} {format_eps(eps)}", eps):
            if check not in seen:  # once is enough: the others say the same
                seen.add(check)
                yield check, detail


def _at(
    ledger: Ledger, phases: Sequence[Phase], budget: str, eps: float
) -> Iterator[tuple[str, str]]:
    cascade = any(phase.cascade for phase in phases)

    def fooled(wanted: Callable[[Phase], bool]) -> Fooled:
        found: Fooled = {}
        for phase in filter(wanted, phases):
            for image, answer in ledger.of(phase, eps).items():
                if ledger.clean[image].attacked and not answer.error:
                    found[image] = found.get(image, False) or _won(phase, answer, eps)
        return found

    def beaten(weaker: Fooled, stronger: Fooled, share: float) -> tuple[int, int, bool]:
        """(won by the weaker alone, by the stronger alone, whether that says something)"""
        both = weaker.keys() & stronger.keys()
        alone = sum(weaker[image] and not stronger[image] for image in both)
        other = sum(stronger[image] and not weaker[image] for image in both)
        clear = alone >= _IMAGES and alone - other > share * len(stronger)
        # in a cascade the later attack never saw what the earlier one had fooled
        return alone, other, clear and (cascade or mcnemar(alone, other) < _P_VALUE)

    by_gradient = fooled(lambda phase: _loss(phase) is not None)
    without = fooled(lambda phase: phase.attack.access != "gradient")
    alone, other, clear = beaten(without, by_gradient, _CASCADE_SHARE)
    if clear:
        yield (
            "black box",
            f"attacks that see no gradient fooled {alone} images at {budget} that those with one "
            f"left standing{'' if cascade else f' (the other way round: {other})'}: gradients are "
            "masked; add -a square:steps=5000 or -a hopskipjump, and look for what stops them",
        )
    on_entropy = fooled(lambda phase: _loss(phase) == "ce")
    on_margin = fooled(lambda phase: _loss(phase) == "margin")
    alone, other, clear = beaten(on_margin, on_entropy, _LOSS_SHARE)
    if clear:
        yield (
            "loss",
            f"attacks on a margin fooled {alone} images at {budget} that cross-entropy left "
            f"standing{'' if cascade else f' (the other way round: {other})'}: its gradient "
            "vanishes (large logits), so rely on attacks with loss=dlr or loss=margin",
        )


def _loss(phase: Phase) -> str | None:
    """`ce`, or `margin` for any that does not depend on the logits' scale; None: no search along
    a gradient. An image that such a search gave up early counts as one that it left standing."""
    norm = phase.norm or "linf"
    if phase.attack.access != "gradient" or phase.attack.cost(Space(norm, _SHAPE))[1] < _GRADIENTS:
        return None
    return "ce" if getattr(phase.attack, "loss", None) == "ce" else "margin"


def _won(phase: Phase, answer: Answer, eps: float) -> bool:
    within = not phase.minimum or answer.broken_at(eps, minimum=True)
    return answer.success and within


def _speaks(phase: Phase, norm: Norm, eps: float) -> bool:
    asked = phase.minimum or any(same_eps(eps, other) for other in phase.eps)
    return phase.norm == norm and asked

"""Figures in words: what every format shows alike. Rounded for reading, never for deciding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from advcli.attacks.registry import attack_class
from advcli.audit.drop import GATE, UNPAIRED
from advcli.audit.waivers import accepted
from advcli.images.text import printable
from advcli.threats.budget import format_eps

__all__ = [
    "budget",
    "by_norm",
    "calls",
    "calls_note",
    "curve_tables",
    "distance",
    "fooled",
    "gate_text",
    "interval",
    "labels_note",
    "legend",
    "percent",
    "points",
    "points_interval",
    "resized_note",
    "sample_note",
    "sparkline",
    "target",
    "unsettled",
    "verdict",
    "waiver",
]

_BARS = "▁▂▃▄▅▆▇█"
_VERDICTS = {
    "pass": "PASS: every gate holds",
    "fail": "FAIL: the model is not robust enough",
    "inconclusive": "INCONCLUSIVE: no verdict can rest on these figures",
    "none": "no gate was set",
}


def percent(value: float | None) -> str:
    """A fraction as a percentage with one decimal; 100.0 % and 0.0 % only where exact."""
    if value is None:
        return "–"
    shown = f"{100 * value:.1f}"
    if shown == "100.0" and value < 1:
        return "99.9+ %"
    if shown == "0.0" and value > 0:
        return "<0.1 %"
    return f"{shown} %"


def interval(ci95: Sequence[float] | None) -> str:
    """A 95 % interval, in percent."""
    if ci95 is None:
        return "–"
    return f"{100 * ci95[0]:.1f}–{100 * ci95[1]:.1f}"


def points(value: float | None) -> str:
    """A difference of two fractions in percentage points, signed; 0.0 only where exact."""
    if value is None:
        return "–"
    tenths = f"{100 * value:+.1f}"
    shown = f"{100 * value:+.1g}" if value and float(tenths) == 0 else tenths
    return "0.0" if not value else shown.replace("-", "−")


def points_interval(ci95: Sequence[float] | None) -> str:
    """A 95 % interval of a difference, in percentage points."""
    if ci95 is None:
        return "–"
    low, high = (f"{100 * bound:+.1f}".replace("-", "−") for bound in ci95)
    return f"{low} to {high}"


def budget(norm: str | None, eps: float | None) -> str:
    """`linf 8/255`, or that a threat has none."""
    return "no norm" if norm is None or eps is None else f"{norm} {format_eps(eps)}"


def by_norm(summary: dict[str, Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The rows of attacks in a norm, and those of threats without one, which have no worst case
    with the others."""
    rows = summary["attacks"]
    return [r for r in rows if r["norm"] is not None], [r for r in rows if r["norm"] is None]


def distance(value: float | None, norm: str | None) -> str:
    """A median distance; a whole number of 8-bit levels as such, in linf."""
    if value is None:
        return "–"
    if norm == "linf":
        return f"{255 * value:.3g}/255"
    return f"{value:.3g}"


def sampled(images: dict[str, Any]) -> str:
    """`364 images`; `100 of 430 images` where not all of the folder's were to be in it."""
    left = images["count"] - images["evaluated"] - len(images["skipped"])
    of = f" of {images['count']}" if left > 0 else ""
    return f"{images['evaluated']}{of} images"


def verdict(summary: dict[str, Any]) -> str:
    failed = {
        gate["gate"]
        for gate in summary["gates"]
        if gate["verdict"] == "fail" and not accepted(gate)
    }
    if summary["verdict"] == "fail" and failed == {GATE}:
        return "FAIL: the model got worse"
    waived = sum(map(accepted, summary["gates"]))
    if summary["verdict"] == "pass" and waived:
        return f"{_VERDICTS['pass']}, but for {waived} whose failure is waived"
    return _VERDICTS[summary["verdict"]]


def error_count(summary: dict[str, Any]) -> int:
    """Answers that ended in an error."""
    rows = (summary["clean"], *summary["attacks"], *summary["natural"])
    return sum(row["errors"] for row in rows)


def doubts(summary: dict[str, Any]) -> str:
    """Why a run ended without a verdict."""
    details = [f["detail"] for f in summary["soundness"]["findings"] if f["verdict"] == "suspect"]
    errors = error_count(summary)
    details += [f"{errors} error(s) on images"] if errors else []
    return "; ".join(details) or verdict(summary)


def waiver(gate: dict[str, Any]) -> str:
    """What a gate's row says of its waiver, with date and reason; empty without one."""
    found = gate.get("waiver")
    if not found:
        return ""
    said = {
        "accepted": "failure waived until {}",
        "unneeded": "its waiver until {} is no longer needed",
        "undecided": "its waiver until {} accepts a failure, not a missing verdict",
        "expired": "its waiver expired after {}",
    }
    return f"{said[found['state']].format(found['until'])}: {found['reason']}"


def gate_name(gate: dict[str, Any]) -> str:
    """What it gates: the gate as it was given, where that is no bare threshold."""
    text = str(gate["gate"])
    return text if "=" in text or text == GATE else f"worst case={text}"


def gate_text(gate: dict[str, Any]) -> str:
    """What was measured against what was asked; where more images would settle it, how many."""
    drop = gate["gate"] == GATE
    if drop:
        measured = f"{points(gate['value'])} points"
        measured += f" in {printable(gate['where'])}" if gate["where"] else ""
        most = f"{abs(100 * gate['threshold']):g}"
        asked, wanted = f"a drop of {most}", f"a drop of at most {most} allowed"
        sure = points_interval(gate["ci95"])
    else:
        measured, asked = percent(gate["value"]), percent(gate["threshold"])
        wanted, sure = f"at least {asked} wanted", interval(gate["ci95"])
    if unsettled(gate):
        return f"{measured} (95 %: {sure}) against {asked}; {_enough(gate)}"
    few = "; too few images are in both runs" if gate.get("doubt") == UNPAIRED else ""
    return f"{measured}{f' (95 %: {sure})' if drop else ''}, {wanted}{few}"


def gate_and_waiver(gate: dict[str, Any]) -> str:
    """`gate_text`, and what there is to say of its waiver."""
    said = waiver(gate)
    return gate_text(gate) + (f"; {said}" if said else "")


def unsettled(gate: dict[str, Any]) -> bool:
    """Whether a gate has no verdict because its interval lies on both sides of the threshold."""
    return gate.get("doubt") == "interval"


def _enough(gate: dict[str, Any]) -> str:
    needed = gate["images_needed"]
    if needed is None:
        return "so near to it that no number of images would settle it"
    of = " of that class" if str(gate["gate"]).startswith("class:") else ""
    return (
        f"about {_rounded_up(needed):,} more image{'s' if needed > 1 else ''}{of} would settle it"
    )


def _rounded_up(count: int) -> int:
    """To two significant digits."""
    unit: int = 10 ** max(0, len(str(count)) - 2)
    return -(-count // unit) * unit


def target(summary: dict[str, Any]) -> str | None:
    """What a targeted run aimed at (a class's name, least-likely, next); None: untargeted."""
    aim: str | None = summary["provenance"].get("targeted")
    return aim


def fooled(summary: dict[str, Any], row: dict[str, Any]) -> str:
    """`3/40`: images that met the attack's goal, of those attacked."""
    if target(summary) is None:
        return f"{row['broken']}/{row['attempted']}"
    return f"{round((row['success_rate'] or 0) * row['attempted'])}/{row['attempted']}"


def legend(summary: dict[str, Any]) -> list[str]:
    """Sentences without which the columns could be misread."""
    lines = []
    aim = target(summary)
    if aim is not None:
        shown = {"least-likely": "each image's least likely class", "next": "the class after its"}
        what = shown.get(aim, f"class '{printable(aim, 40)}'")
        row = next((row for row in summary["attacks"] if not row.get("fitted")), None)
        left_out = (
            summary["clean"]["total"] - row["total"]
            if row
            else sum(entry["total"] for entry in summary["per_class"] if entry["class"] == aim)
        )
        lines.append(
            f"targeted at {what}: success and hits = the target was hit, robust = the label was "
            f"kept; {left_out} image(s) skipped because the label is the target"
        )
    surrogate = summary["provenance"].get("surrogate")
    if surrogate is not None:
        lines.append(
            f"transfer: crafted on {printable(surrogate['path'], 60)} (sha256 "
            f"{surrogate['sha256'][:12]}, preprocessing {surrogate['preprocessing']['flag']}), the "
            "finished image judged once on the model; calls are the surrogate's, but for that one"
        )
    if summary["provenance"].get("cascade"):
        lines.append(
            "cascade: each attack saw only the images still standing before it, so robust is "
            "cumulative"
        )
    lines += filter(None, map(fit_note, summary["attacks"]))
    if _swept(summary):
        lines.append(
            "sweep: an image fooled at one eps counts at every larger one, with the distance that "
            "it was fooled at and no new calls"
        )
    if summary["attacks"]:
        searched = any(_minimum(row) for row in summary["attacks"])
        lines.append(
            "median: distance of the attacked images, those that withstood counting as infinitely "
            "far (–: at least half withstood)"
            + ("; of a smallest-perturbation search whatever the budget" if searched else "")
        )
    return [*lines, *filter(None, [calls_note(summary)])]


def _minimum(row: dict[str, Any]) -> bool:
    return attack_class(row["attack"].partition(":")[0]).kind == "minimum-norm"


def _swept(summary: dict[str, Any]) -> bool:
    """Whether a threat has several budgets; a minimum-norm attack is run once for all of them."""
    rows = [(row["attack"], row["norm"]) for row in summary["attacks"] if not _minimum(row)]
    return len(rows) > len(set(rows))


def fit_note(row: dict[str, Any]) -> str:
    """What a fitted attack learned from; empty for the others."""
    fit = row.get("fitted")
    if not fit:
        return ""
    name = f"{row['attack']}, {budget(row['norm'], row['eps'])}"
    judged = f"judged on the {row['total']} images of the other part (split by content and seed)"
    if fit["given"]:
        source = printable(str(fit["given"]), 60)
        return f"{name}: the generator was given ({source}); {judged}"
    return (
        f"{name}: learned once from {fit['images']} images ({fit['gradients']:,} gradients), "
        f"{judged}"
    )


def calls(row: dict[str, Any]) -> str:
    """`20.5 / 19.5`: forwards and gradients per attacked image, – where none was."""
    if row["forwards_per_image"] is None:
        return "–"
    return f"{_count(row['forwards_per_image'])} / {_count(row['gradients_per_image'])}"


def calls_note(summary: dict[str, Any]) -> str:
    """What each attack asked of the model per attacked image; several eps of one follow in order.

    A minimum-norm attack is run once, whatever its eps. Natural threats see every image.
    """
    found: dict[tuple[str, str], list[str]] = {}
    for row in summary["attacks"]:
        if row["forwards_per_image"] is not None:
            shown = found.setdefault((row["attack"], row["norm"]), [])
            if calls(row) not in shown:
                shown.append(calls(row))
    asked: dict[str, int] = {}
    for row in summary["natural"]:
        asked[row["attack"]] = asked.get(row["attack"], 0) + row["forwards"]
    total = summary["clean"]["total"]
    found |= {(attack, ""): [f"{_count(n / total)} / 0"] for attack, n in asked.items() if total}
    if not found:
        return ""
    several = len({norm for _, norm in found} - {""}) > 1
    listed = "; ".join(
        f"{attack}{f' {norm}' if several and norm else ''} {', '.join(shown)}"
        for (attack, norm), shown in found.items()
    )
    whose = "attacked image" if summary["attacks"] else "image"
    if summary["attacks"] and asked:
        whose += " (natural threats: per image)"
    return f"model calls per {whose}, forwards / gradients: {listed}"


def _count(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:,.0f}"


class CurveTable(NamedTuple):
    """The curves of one norm: `eps` are the columns, `rows` (attack, figures, sparkline)."""

    norm: str
    eps: list[str]
    rows: list[tuple[str, list[str], str]]


def curve_tables(summary: dict[str, Any], columns: int) -> list[CurveTable]:
    """The curves, at `columns` budgets at most; – where an attack was not run at one."""
    tables = []
    for norm in dict.fromkeys(curve["norm"] for curve in summary["curve"]):
        curves = [curve for curve in summary["curve"] if curve["norm"] == norm]
        chosen = _spread(sorted({p["eps"] for c in curves for p in c["points"]}), columns)
        rows = []
        for curve in curves:
            at = {point["eps"]: point["robust_accuracy"] for point in curve["points"]}
            cells = [percent(at[eps]) if eps in at else "–" for eps in chosen]
            rows.append((curve["attack"], cells, sparkline(list(at.values()))))
        tables.append(CurveTable(norm, [format_eps(eps) for eps in chosen], rows))
    return tables


def _spread(values: list[float], count: int) -> list[float]:
    """At most `count` of the values behind the first, evenly by place, the last among them."""
    many = min(count, len(values) - 1)
    return [values[round(i * (len(values) - 1) / many)] for i in range(1, many + 1)]


def sparkline(shares: Sequence[float | None], width: int = 16) -> str:
    """Fractions of 1 as a row of bars; too few are better read as figures."""
    if len(shares) < width // 2:
        return ""
    known = [0.0 if share is None else share for share in shares]
    picked = [known[round(i * (len(known) - 1) / (width - 1))] for i in range(width)]
    return "".join(_BARS[min(int(share * len(_BARS)), len(_BARS) - 1)] for share in picked)


def labels_note(summary: dict[str, Any]) -> str:
    """Empty, or that the reference is the model itself."""
    if summary["images"]["labels"] != "model":
        return ""
    return (
        "no labels were given: the reference is the model's own prediction on each clean image, "
        "so clean accuracy is 100 % by definition"
    )


def sample_note(summary: dict[str, Any]) -> str:
    """Empty, or that the figures are those of a part of the images."""
    images = summary["images"]
    notes = []
    if images.get("shard"):
        notes.append(
            f"shard {images['shard']} of {images['count']} images: `advcli merge` puts all of them "
            "together"
        )
    budget = images.get("time_budget")
    if budget and budget["images"] < budget["of"]:
        notes.append(
            f"{budget['images']} of {budget['of']} images, a random sample, were through when the "
            f"time budget of {budget['seconds']:g} s was over: --resume goes on with the others"
        )
    return "; ".join(notes)


def resized_note(summary: dict[str, Any]) -> str:
    """Empty, or that files did not have the model's input size."""
    resized = summary["images"]["resized"]
    if not resized:
        return ""
    height, width = resized["to"]
    return (
        f"{resized['count']} image(s) were resized to the model's {width}×{height}, "
        f"e.g. {printable(resized['example'], 40)} from {resized['from'][1]}×{resized['from'][0]}; "
        "perturbed images have the model's size"
    )

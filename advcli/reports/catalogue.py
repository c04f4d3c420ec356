"""The attacks for people and programs, from their own settings, docstrings and declarations."""

from __future__ import annotations

import importlib
import inspect
import json
import re
from functools import cache
from importlib.resources import files
from typing import Any

from annotated_types import Ge, Gt, Le, Lt

from advcli.attacks.base import Settings
from advcli.attacks.fitted import FittedAttack
from advcli.attacks.registry import FITTED, NAMES, NATURAL, attack_class, is_natural, natural_class
from advcli.audit.presets import check_attack
from advcli.threats.budget import format_eps
from advcli.threats.space import Space

__all__ = ["describe", "describe_all", "table_of", "text_of"]

_SHAPE = (32, 32, 3)  # what the stated costs are for
_ACCESS = {
    "none": "nothing",
    "decision": "decisions",
    "scores": "scores",
    "gradient": "gradients",
}
_FAMILIES = {  # (kind, access) -> its heading, in the order of the catalogue
    ("budget", "gradient"): "within eps, by gradients",
    ("minimum-norm", "gradient"): "the nearest, by gradients",
    ("budget", "scores"): "within eps, by scores",
    ("minimum-norm", "scores"): "the nearest, by scores",
    ("budget", "decision"): "within eps, by decisions alone",
    ("minimum-norm", "decision"): "the nearest, by decisions alone",
    ("budget", "none"): "within eps, blindly",
    ("fitted", "gradient"): "learned once from a part of the images, judged on the others",
    ("natural", "none"): "natural threats, without a norm",
}
_OTHERS = "others"


def describe_all() -> list[dict[str, Any]]:
    return [describe(name) for name in (*NAMES, *FITTED, *NATURAL)]


def describe(name: str) -> dict[str, Any]:
    """One attack: what, how, cost, options, reference. Raises UsageError for an unknown name."""
    name = name.strip().lower()
    check_attack(name)
    cls: type[Settings] = natural_class(name) if is_natural(name) else attack_class(name)
    settings = cls()
    forwards, gradients = settings.cost(Space((*cls.norms, "linf")[0], _SHAPE))
    fitted = isinstance(settings, FittedAttack)
    learning = settings.fit_cost() if isinstance(settings, FittedAttack) else None
    return {
        "name": cls.name,
        "summary": cls.summary,
        "family": _FAMILIES.get(("fitted" if fitted else cls.kind, cls.access), _OTHERS),
        "kind": cls.kind,
        "access": cls.access,
        "norms": list(cls.norms),
        "targeted": cls.targetable,
        "cost": {
            "forwards": forwards,
            "gradients": gradients,
            "per": "image, eps and 32×32×3 input, at the default options, at most; and one "
            "forward or more to confirm a success",
            "learning": learning and {"forwards": learning[0], "gradients": learning[1]},
        },
        "measured": _measured(name),
        "options": [_option(key, cls) for key in cls.model_fields],
        "reference": cls.reference,
        "description": inspect.cleandoc(_module_doc(cls)),
    }


@cache
def _costs() -> dict[str, Any]:
    stored: dict[str, Any] = json.loads(files("advcli.attacks").joinpath("costs.json").read_text())
    return stored


def _measured(name: str) -> dict[str, Any] | None:
    """What it cost per attacked image on the sample models; None where it was not measured."""
    costs = _costs()
    if name not in costs["attacks"]:
        return None
    return {"models": costs["models"], "images": costs["images"], "norms": costs["attacks"][name]}


def _module_doc(cls: type[Settings]) -> str:
    return importlib.import_module(cls.__module__).__doc__ or ""


def _option(key: str, cls: type[Settings]) -> dict[str, Any]:
    field = cls.model_fields[key]
    schema = cls.model_json_schema()["properties"][key]
    choices = schema.get("enum") or next(
        (part["enum"] for part in schema.get("anyOf", ()) if "enum" in part), None
    )
    bounds = []
    for rule in field.metadata:
        for kind, sign, attribute in (
            (Ge, "≥", "ge"),
            (Gt, ">", "gt"),
            (Le, "≤", "le"),
            (Lt, "<", "lt"),
        ):
            if isinstance(rule, kind):
                bounds.append(f"{sign} {getattr(rule, attribute):g}")
    return {
        "name": key.replace("_", "-"),
        "default": field.default,
        "range": ", ".join(bounds) or None,
        "choices": choices,
        "description": field.description or "",
    }


def table_of(attacks: list[dict[str, Any]], *, width: int | None, color: bool) -> str:
    """The whole catalogue, a table per family; their columns stand below one another."""
    from rich.table import Table
    from rich.text import Text

    from advcli.reports.terminal import console_text

    order = [*_FAMILIES.values(), _OTHERS]
    families = sorted({attack["family"] for attack in attacks}, key=order.index)
    cells = {attack["name"]: (" ".join(attack["norms"]), _calls(attack)) for attack in attacks}
    fixed = [
        max(map(len, ("attack", *cells))),
        max(len(norms) for norms, _ in cells.values()),
        max(len("calls"), *(len(calls) for _, calls in cells.values())),
    ]
    longest = max(len(attack["summary"]) for attack in attacks)
    room = longest if width is None else max(12, width - sum(fixed) - 2 * len(fixed))

    def columns(*, show_header: bool = False) -> Table:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=show_header)
        table.add_column("attack", no_wrap=True, style="bold", width=fixed[0])
        table.add_column("what", overflow="fold", width=min(longest, room))
        table.add_column("norms", no_wrap=True, width=fixed[1])
        table.add_column("calls", no_wrap=True, width=fixed[2], justify="right")
        return table

    parts: list[Any] = [columns(show_header=True)]
    for family in families:
        table = columns()
        for attack in attacks:
            if attack["family"] == family:
                table.add_row(attack["name"], attack["summary"], *cells[attack["name"]])
        parts += ["", Text(family, style="bold cyan"), table]
    return console_text(
        *parts,
        "",
        "calls: forwards + gradients per image, measured on the robust sample digits.",
        "`advcli attacks NAME` shows one with its options.",
        width=width,
        color=color,
    )


def _calls(attack: dict[str, Any]) -> str:
    """Model calls per image in its first norm; a gradient is one forward and one gradient."""
    measured = attack["measured"]
    if measured is None:
        return "–"
    found = measured["norms"][attack["norms"][0]]["robust"]
    calls = found["forwards"] + found["gradients"]
    return f"{calls:,.0f}"


def text_of(attack: dict[str, Any], *, width: int | None, color: bool) -> str:
    """One attack in full."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from advcli.reports.terminal import console_text

    options = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
    options.add_column("option", no_wrap=True, style="bold")
    options.add_column("default", no_wrap=True)
    options.add_column("range", overflow="fold")
    options.add_column("meaning", overflow="fold")
    for option in attack["options"]:
        allowed = " | ".join(map(str, option["choices"])) if option["choices"] else option["range"]
        options.add_row(
            option["name"], _shown(option["default"]), allowed or "", option["description"]
        )
    cost = attack["cost"]
    facts = (
        f"norms: {', '.join(attack['norms']) or 'none'}   sees: {_ACCESS[attack['access']]}   "
        f"targeted: {'yes' if attack['targeted'] else 'no'}   kind: {attack['kind']}"
    )
    calls = f"{cost['forwards']} forwards and {cost['gradients']} gradients per {cost['per']}"
    if cost["learning"]:
        calls += f"; before that {cost['learning']['gradients']:,} gradients to learn, once per eps"
    example = f"example: advcli evaluate model.h5 images/ -a {_example(attack)}"
    return console_text(
        Text(attack["name"], style="bold"),
        "",
        attack["description"] if width is None else _unwrapped(attack["description"]),
        "",
        facts,
        f"calls: {calls}",
        *_measurements(attack),
        f"reference: {attack['reference']}",
        "",
        *((options, "") if attack["options"] else ()),
        example,
        width=width,
        color=color,
    )


def _unwrapped(text: str) -> str:
    """Each paragraph on one line, for a screen to wrap; indented lines (formulas) stay."""
    return re.sub(r"(?<=\S)\n(?=[^\s-])", " ", text)


def _measurements(attack: dict[str, Any]) -> list[str]:
    """`linf 0.15: plain 2.1 / 1.1, robust 19.2 / 18.2`, under a line that says what it is."""
    measured = attack["measured"]
    if measured is None:
        return []
    models = ", ".join(f"{label} = {path}" for label, path in measured["models"].items())
    lines = [
        f"measured: forwards / gradients per attacked image, {measured['images']} images; {models}"
    ]
    for norm, entry in measured["norms"].items():
        at = norm if entry["eps"] is None else f"{norm} {format_eps(entry['eps'])}"
        found = []
        for label in measured["models"]:
            fooled = entry[label]["fooled"]
            note = "" if fooled is None else f" ({100 * fooled:.0f} % fooled)"
            calls = f"{entry[label]['forwards']:,g} / {entry[label]['gradients']:,g}"
            found.append(f"{label} {calls}{note}")
        lines.append(f"  {at}: {', '.join(found)}")
    return lines


def _example(attack: dict[str, Any]) -> str:
    if not attack["options"]:
        return str(attack["name"])
    first = attack["options"][0]
    return f"{attack['name']}:{first['name']}={_shown(first['default'])}"


def _shown(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:g}" if isinstance(value, float) else str(value)

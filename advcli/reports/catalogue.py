"""The attacks for people and programs, from their own settings, docstrings and declarations."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

from annotated_types import Ge, Gt, Le, Lt

from advcli.attacks.base import Settings
from advcli.attacks.fitted import FittedAttack
from advcli.attacks.registry import FITTED, NAMES, NATURAL, attack_class, is_natural, natural_class
from advcli.threats.space import Space

__all__ = ["describe", "describe_all", "table_of", "text_of"]

_SHAPE = (32, 32, 3)  # what the stated costs are for
_ACCESS = {
    "none": "nothing",
    "decision": "decisions",
    "scores": "scores",
    "gradient": "gradients",
}


def describe_all() -> list[dict[str, Any]]:
    return [describe(name) for name in (*NAMES, *FITTED, *NATURAL)]


def describe(name: str) -> dict[str, Any]:
    """One attack: what, how, cost, options, reference. Raises UsageError for an unknown name."""
    cls: type[Settings] = natural_class(name) if is_natural(name) else attack_class(name)
    settings = cls()
    forwards, gradients = settings.cost(Space((*cls.norms, "linf")[0], _SHAPE))
    learning = settings.fit_cost() if isinstance(settings, FittedAttack) else None
    return {
        "name": cls.name,
        "summary": cls.summary,
        "kind": cls.kind,
        "access": cls.access,
        "norms": list(cls.norms),
        "targeted": cls.targetable,
        "cost": {
            "forwards": forwards,
            "gradients": gradients,
            "per": "image, eps and 32×32×3 input, at the default options, at most",
            "learning": learning and {"forwards": learning[0], "gradients": learning[1]},
        },
        "options": [_option(key, cls) for key in cls.model_fields],
        "reference": cls.reference,
        "description": inspect.cleandoc(_module_doc(cls)),
    }


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
    """The whole catalogue."""
    from rich import box
    from rich.table import Table

    from advcli.reports.terminal import console_text

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
    table.add_column("attack", no_wrap=True, style="bold")
    table.add_column("what", overflow="fold")
    table.add_column("sees", no_wrap=True)
    table.add_column("norms", no_wrap=True)
    table.add_column("finds", no_wrap=True)
    for attack in attacks:
        table.add_row(
            attack["name"],
            attack["summary"],
            _ACCESS[attack["access"]],
            " ".join(attack["norms"]),
            "nearest" if attack["kind"] == "minimum-norm" else "within eps",
        )
    return console_text(
        table, "", "`advcli attacks NAME` shows one with its options.", width=width, color=color
    )


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
        attack["description"],
        "",
        facts,
        f"calls: {calls}",
        f"reference: {attack['reference']}",
        "",
        *((options, "") if attack["options"] else ()),
        example,
        width=width,
        color=color,
    )


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

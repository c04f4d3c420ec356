"""Every attack by name, and the way from `pgd:steps=100,norm=l2` to its settings."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from importlib import import_module
from typing import Any, TypeVar

from pydantic import ValidationError

from advcli.attacks.base import Attack, Settings
from advcli.attacks.fitted import FittedAttack
from advcli.attacks.natural import NaturalAttack
from advcli.errors import UsageError
from advcli.threats.budget import Norm, check_eps, parse_eps, parse_norm

Chosen = TypeVar("Chosen", bound=Settings)

# name -> module: a new attack is a file and a line here
_MODULES = {
    "noise": "noise",
    "random-search": "random_search",
    "square": "square",
    "nes": "nes",
    "spsa": "spsa",
    "simba": "simba",
    "one-pixel": "one_pixel",
    "sparse-rs": "sparse_rs",
    "fgsm": "fgsm",
    "fgm": "fgm",
    "bim": "bim",
    "pgd": "pgd",
    "apgd": "apgd",
    "apgd-t": "apgd_t",
    "pma": "pma",
    "malt": "malt",
    "race": "race",
    "mifgsm": "mifgsm",
    "cw": "cw",
    "ead": "ead",
    "deepfool": "deepfool",
    "fab": "fab",
    "fab-t": "fab_t",
    "fmn": "fmn",
    "ddn": "ddn",
    "pdpgd": "pdpgd",
    "sigma-zero": "sigma_zero",
    "hopskipjump": "hopskipjump",
    "surfree": "surfree",
    "cgba": "cgba",
    "boundary": "boundary",
}
# those that learn from a part of the images, and are applied to the others
_FITTED = {"universal": "universal", "patch": "patch", "advgan": "advgan"}
# threats that nobody chose: no norm, no search of the model
_NATURAL = {
    "corruption": "corruption",
    "spatial": "spatial",
    "blur": "blur",
    "brightness": "brightness",
    "contrast": "contrast",
}
NAMES: tuple[str, ...] = tuple(_MODULES)
NATURAL: tuple[str, ...] = tuple(_NATURAL)
FITTED: tuple[str, ...] = tuple(_FITTED)


@dataclass(frozen=True)
class Request:
    """An attack as asked for: its settings, its norm, and the eps that its own spec fixes."""

    attack: Attack | FittedAttack
    norm: Norm | None  # None: a threat without one
    eps: float | None = None


def attack_class(name: str) -> type[Attack] | type[FittedAttack]:
    """The class called `name`; an unknown name is an error that suggests the nearest."""
    modules = _MODULES | _FITTED
    if name not in modules:
        known = modules | _NATURAL
        near = [other for other in known if sorted(other) == sorted(name)]  # letters swapped
        near += difflib.get_close_matches(name, known, n=1, cutoff=0.4)
        hint = f"did you mean '{near[0]}'? " if near else ""
        raise UsageError(f"unknown attack '{name}'", f"{hint}`advcli attacks` lists all of them")
    found: type[Attack] | type[FittedAttack]
    found = _defined(name, modules[name], (Attack, FittedAttack))
    return found


def is_natural(spec: str) -> bool:
    """Whether a spec names a natural threat."""
    return _name_of(spec) in _NATURAL


def is_fitted(spec: str) -> bool:
    """Whether a spec names an attack that learns from sample images first."""
    return _name_of(spec) in _FITTED


def _name_of(spec: str) -> str:
    return spec.strip().partition(":")[0].strip().lower()


def natural_class(name: str) -> type[NaturalAttack]:
    """The natural threat called `name`, which `is_natural`."""
    found: type[NaturalAttack] = _defined(name, _NATURAL[name], (NaturalAttack,))
    return found


def parse_natural(spec: str) -> NaturalAttack:
    """`name[:key=value,…]` -> its settings; there is no norm and no eps."""
    name, options = _split(spec)
    for key in ("norm", "eps"):
        if key in options:
            raise UsageError(f"'{name}' has no {key}: it is a natural threat", f"leave {key} away")
    return _build(natural_class(name), options, spec)


def _defined(name: str, module_name: str, kinds: tuple[type[Settings], ...]) -> Any:
    module = import_module(f"advcli.attacks.{module_name}")
    found = [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, kinds)
        and getattr(value, "name", "") == name
    ]
    if len(found) != 1:
        raise TypeError(f"advcli.attacks.{module_name} defines {len(found)} attacks '{name}'")
    return found[0]


def parse_spec(spec: str, default_norm: Norm | None = None) -> Request:
    """`name[:key=value,…]` -> Request. `norm` and `eps` may stand among the options.

    Without a norm in the spec: `default_norm`; without that, the first norm of the attack.
    """
    name, options = _split(spec)
    cls = attack_class(name)
    norm = _norm_for(cls, options.pop("norm", None), default_norm)
    budget = options.pop("eps", None)
    attack = _build(cls, options, spec)
    if budget is None:
        return Request(attack, norm)
    if attack.kind == "minimum-norm":
        raise UsageError(
            f"'{name}' looks for the smallest distance and takes no eps",
            "ask for robust accuracy at chosen budgets with --eps",
        )
    if norm is None:
        raise UsageError(f"'{name}' has no norm, and so no eps", "leave eps away")
    eps = parse_eps(budget)
    check_eps(eps, norm)
    return Request(attack, norm, eps)


def _split(spec: str) -> tuple[str, dict[str, str]]:
    """`name:key=value,…` -> the name and its options as text."""
    name, _, tail = spec.strip().partition(":")
    options: dict[str, str] = {}
    for part in filter(None, (piece.strip() for piece in tail.split(","))):
        key, sign, value = part.partition("=")
        if not sign or not value.strip():
            raise UsageError(f"'{part}' in '{spec}' is no option", "write it as key=value")
        key = key.strip().replace("-", "_")
        if key in options:
            raise UsageError(f"'{key}' stands twice in '{spec}'", "keep one of them")
        options[key] = value.strip()
    return name.strip().lower(), options


def _norm_for(
    cls: type[Attack] | type[FittedAttack], asked: str | None, default: Norm | None
) -> Norm | None:
    if not cls.norms and asked is None:
        return None
    if asked is None and default is None:
        return cls.norms[0]
    norm = parse_norm(asked) if asked is not None else default
    if norm is None or norm not in cls.norms:
        known = f"its norms: {', '.join(cls.norms)}" if cls.norms else "leave norm away"
        raise UsageError(f"'{cls.name}' has no {norm} form", known)
    return norm


def _build(cls: type[Chosen], options: dict[str, str], spec: str) -> Chosen:
    known = list(cls.model_fields)
    for key in options:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.4)
            hint = f"did you mean '{near[0].replace('_', '-')}'? " if near else ""
            raise UsageError(
                f"'{cls.name}' has no option '{key.replace('_', '-')}'",
                f"{hint}`advcli attacks {cls.name}` lists its options",
            )
    try:
        return cls.model_validate(options)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"]).replace("_", "-")
        wrong = f"{key}={first['input']} in '{spec}'" if key else f"'{spec}'"
        raise UsageError(
            f"{wrong}: {first['msg'].lower()}",
            f"`advcli attacks {cls.name}` lists its options and their ranges",
        ) from None

"""Presets: attacks in a fixed order, as a cascade unless the preset says otherwise.

A preset is a line in `_TABLE`: its versions, and for each the attacks in every norm that it has.
Options stand where the attack's own defaults are not meant.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field

from advcli.errors import UsageError
from advcli.threats.budget import Norm

__all__ = ["PRESETS", "Preset", "check_attack", "parse_preset", "preset_remark", "preset_specs"]

_Versions = dict[str, dict[Norm, tuple[str, ...]]]


@dataclass(frozen=True)
class Preset:
    """`versions`: the first one is the default. `cascade`: each attack sees what the ones before
    it left standing; otherwise every attack sees every image. `natural`: threats without a norm,
    which see every image in any case. `remarks`: what a reader of the first version's figures
    should know."""

    summary: str
    versions: _Versions
    cascade: bool = True
    natural: tuple[str, ...] = ()
    remarks: Mapping[Norm, str] = field(default_factory=dict)


def _paced(spec: str) -> str:
    """`spec` of an attack of AutoAttack, which gives a search up that is not on course."""
    return _with(spec, "patience=20" if spec.startswith("fab-t") else "give-up=true")


def _with(spec: str, option: str) -> str:
    return f"{spec}{',' if ':' in spec else ':'}{option}"


# The authors' composition (fra31/auto-attack, autoattack.py, set_version), in its order. In L1
# their targeted APGD has 5 targets and the untargeted one 5 restarts, in `standard` alone.
_WHOLE: dict[Norm, tuple[str, ...]] = {
    "linf": ("apgd:scouts=0", "apgd-t", "fab-t", "square"),
    "l2": ("apgd:scouts=0", "apgd-t", "fab-t", "square"),
    "l1": ("apgd:restarts=5,scouts=0", "apgd-t:targets=5", "fab-t", "square"),
}
_AUTOATTACK: _Versions = {
    "standard": {norm: tuple(map(_paced, specs)) for norm, specs in _WHOLE.items()},
    "full": _WHOLE,
    "plus": dict.fromkeys(
        ("linf", "l2", "l1"),
        (
            "apgd:restarts=5,scouts=0",
            "apgd:loss=dlr,restarts=5,scouts=0",
            "fab:restarts=5",
            "square",
            "apgd-t",
            "fab-t",
        ),
    ),
    "rand": dict.fromkeys(
        ("linf", "l2", "l1"), ("apgd:eot=20,scouts=0", "apgd:eot=20,loss=dlr,scouts=0")
    ),
}

_PACED = (
    "autoattack ends a search whose pace would not carry it to success; autoattack:version=full "
    "runs each to its end"
)
_WHOLE_IS = "--preset autoattack:version=full is the whole protocol of record"
_LEFT_OUT: dict[Norm, str] = {
    "linf": "audit leaves out FAB, long random searches, and long ascents on images far from being "
    f"fooled; {_WHOLE_IS}",
    "l2": f"audit leaves out FAB, a long Square, and ascents that fall behind; {_WHOLE_IS}",
    "l1": f"audit leaves out FAB and a long Square; {_WHOLE_IS}",
    "l0": "audit leaves out a long random search: -a sparse-rs -a sigma-zero has one",
}

PRESETS: dict[str, Preset] = {
    # Linf: autoattack's robust accuracy, at a tenth of its model calls; L2 and L1: a fifth
    "audit": Preset(
        "race (L1: APGD; L0: σ-zero), then a short random search: what evaluate runs by default",
        {
            "": {
                "linf": ("race", "square:steps=100"),
                # in L2 and L1 a few calls predict little, and many starts find what one does not
                "l2": ("race:hopeless=3", "apgd-t:give-up=true", "square:steps=100"),
                "l1": ("apgd:restarts=5,scouts=0", "apgd-t:targets=5", "square:steps=100"),
                "l0": ("sigma-zero", "sparse-rs:steps=200"),
            }
        },
        remarks=_LEFT_OUT,
    ),
    "quick": Preset(
        "noise, one gradient step, PGD (L0: σ-zero)",
        {
            "": {
                "linf": ("noise", "fgsm", "pgd"),
                "l2": ("noise", "fgm", "pgd"),
                "l1": ("noise", "fgm", "pgd"),
                "l0": ("noise", "sigma-zero"),
            }
        },
    ),
    "autoattack": Preset(
        "the protocol of record: APGD-CE, APGD-T, FAB-T, Square; version=standard|full|plus|rand",
        _AUTOATTACK,
        remarks=dict.fromkeys(_WHOLE, _PACED),
    ),
    "blackbox": Preset(
        "what needs no gradient: noise, a score-based search, walks along the boundary",
        {
            "": {
                "linf": ("noise", "square", "hopskipjump"),
                "l2": ("noise", "square", "surfree", "hopskipjump"),
                "l1": ("noise", "square"),
                "l0": ("noise", "sparse-rs"),
            }
        },
    ),
    # a coarser grid than the attack's own: about as many model calls as the corruptions
    "natural": Preset(
        "what happens to pictures anyway: 19 corruptions × 5 severities, rotations and shifts",
        {"": {}},
        cascade=False,
        natural=("corruption", "spatial:rotations=7,shifts=3"),
    ),
}


def parse_preset(text: str) -> tuple[Preset, dict[Norm, tuple[str, ...]]]:
    """`name[:version=…]` -> the preset, and the attacks of that version in each norm."""
    name, _, tail = text.strip().partition(":")
    if name not in PRESETS:
        near = difflib.get_close_matches(name, PRESETS, n=1, cutoff=0.4)
        hint = f"did you mean '{near[0]}'? " if near else ""
        raise UsageError(f"unknown preset '{name}'", f"{hint}presets: {', '.join(PRESETS)}")
    preset = PRESETS[name]
    if not tail:
        return preset, next(iter(preset.versions.values()))
    key, _, version = (part.strip() for part in tail.partition("="))
    if key != "version" or version not in preset.versions or not version:
        known = [version for version in preset.versions if version]
        raise UsageError(
            f"'{tail}' is no option of the preset '{name}'",
            f"write {name}:version={'|'.join(known)}" if known else f"write --preset {name}",
        )
    return preset, preset.versions[version]


def check_attack(name: str) -> None:
    """Raises UsageError where a preset stands in an attack's place."""
    if name in PRESETS:
        raise UsageError(f"'{name}' is a preset of attacks, not one", f"write --preset {name}")


def preset_specs(text: str, norm: Norm | None) -> tuple[list[str], bool]:
    """(attack specs with their norm, whether they form a cascade); no norm means Linf."""
    preset, attacks = parse_preset(text)
    if preset.natural and norm is None:
        return [], preset.cascade
    norm = norm or "linf"
    if norm not in attacks:
        raise UsageError(
            f"the preset '{text}' has no {norm} form",
            f"its norms: {', '.join(attacks)}; or name attacks by -a"
            if attacks
            else "leave --norm away: natural threats have none",
        )
    return [_with(spec, f"norm={norm}") for spec in attacks[norm]], preset.cascade


def preset_remark(text: str, norm: Norm | None) -> str | None:
    """What a reader of this preset's figures should know."""
    preset, attacks = parse_preset(text)
    default = next(iter(preset.versions.values()))
    return preset.remarks.get(norm or "linf") if attacks is default else None

"""Going on with a run: what is reused, what may be added, and what must be the same."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from advcli.audit.plan import AuditConfig, Phase, draft_phases, merge
from advcli.audit.soundness import BUDGET, PRESET
from advcli.errors import RunError

__all__ = [
    "changed_options",
    "check_identity",
    "check_model",
    "check_path",
    "continued",
    "continued_rows",
    "different",
    "merged_config",
    "merged_phases",
    "sample_notes",
]

# Said anew each time: where the files are, where to compute, and permission to run foreign code.
_NEVER_REUSED = frozenset(
    {
        *("command", "model", "images", "device", "allow_chance"),
        *("allow_unsafe_model", "custom_objects", "time_budget"),
    }
)
_ATTACKS = frozenset({"attacks", "preset", "norm", "eps"})
_NAMES = {"save_images": "--save-images", "only_fooled": "--only-fooled"}


def changed_options(file: dict[str, Any] | None, earlier: dict[str, Any]) -> frozenset[str]:
    """Options that a configuration file says otherwise than when the run began, or anew.

    Its gates are those of the file that is in effect now, but not of another file that has none.
    """
    if file is None:
        return frozenset()
    known = earlier.get("config_file") or {"path": None, "options": {}}
    before = known["options"]
    changed = {name for name, value in file["options"].items() if before.get(name) != value}
    gates = file["gates"] or file["path"] == known["path"]
    return frozenset(changed | ({"gates"} if gates else set()))


def merged_config(
    config: AuditConfig, earlier: dict[str, Any], given: frozenset[str]
) -> AuditConfig:
    """`config`, with every option that the user did not state as the run has it."""
    stored = AuditConfig.model_validate(earlier["config"])
    reused = set(AuditConfig.model_fields) - _NEVER_REUSED - given
    if given & {"attacks", "preset"}:
        reused -= {"attacks", "preset", "norm"}
        if "eps" not in given and config.attacks:
            reused -= {"eps"}
    changes = {name: getattr(stored, name) for name in reused}
    return config.model_copy(update=changes)


def merged_phases(
    config: AuditConfig, earlier: dict[str, Any], given: frozenset[str]
) -> tuple[Phase, ...]:
    """The run's phases, and those that were asked for in addition."""
    before = tuple(_unchanged(stored) for stored in earlier["phases"])
    if not given & _ATTACKS:
        return before
    added = draft_phases(config)
    if before and added and before[0].cascade != added[0].cascade:
        raise RunError(
            "a cascade (--preset) and independent attacks (-a) cannot share a run",
            "give another --out",
        )
    return merge([*before, *added])


def _unchanged(stored: dict[str, Any]) -> Phase:
    phase = Phase.from_dict(stored)
    now = phase.as_dict()["options"]
    if now != stored["options"]:
        keys = sorted(
            k for k in now.keys() | stored["options"] if now.get(k) != stored["options"].get(k)
        )
        raise RunError(
            f"'{phase.spec}' meant something else when the run began: {', '.join(keys)} differ",
            "go on with the version of advcli that began it, or give another --out",
        )
    return phase


def check_model(sha256: str, earlier: dict[str, Any]) -> None:
    """Raises RunError, before TensorFlow is started, for another model than the run's."""
    if sha256 != earlier["identity"]["model"]:
        raise RunError(
            "the run in --out is of another model: "
            f"sha256 {earlier['identity']['model'][:12]}… there, {sha256[:12]}… now",
            "give another --out, or the model that the run began with",
        )


def check_path(config: AuditConfig, earlier: dict[str, Any]) -> None:
    """Raises RunError where another way of compiling is asked for than the run's."""
    before = earlier["engine"]["compiled"]
    if config.compile not in ("auto", before):
        raise RunError(
            f"the run in --out differs: --compile is {before} there, {config.compile} now",
            "give another --out, or leave --compile away",
        )


def sample_notes(
    config: AuditConfig, given: Collection[str], images: dict[str, Any], earlier: dict[str, Any]
) -> list[str]:
    """What a reader must know where the figures will be about other images than the run's;
    `images` is run.json's section of now."""
    notes = []
    before, count = earlier["images"], images["count"]
    if images["listing"] != before["listing"]:
        notes.append(
            f"the folder's images are not those that the run began with: {before['count']} there, "
            f"{count} now"
        )
    old, new = earlier["config"]["limit"], config.limit
    if new != old:
        notes.append(
            f"--limit is {new or 'none'} now, and was {old or 'none'}: the figures are about the "
            "images of now"
        )
    elif new is not None and "limit" not in given and new < count:
        notes.append(f"--limit {new} is kept from the run; the folder has {count} images")
    return notes


def continued_rows(config: AuditConfig, earlier: dict[str, Any]) -> int | None:
    """The run's batch size, which may have been halved since it was asked for; None where
    another one is asked for now."""
    asked = config.batch_size
    if asked is None or asked == earlier["config"]["batch_size"]:
        return int(earlier["engine"]["batch_size"])
    return None


def check_identity(
    identity: dict[str, Any], earlier: dict[str, Any], given: frozenset[str]
) -> None:
    """Raises RunError with every difference that would mix two runs' figures."""
    unlike = different(identity, earlier["identity"])
    if unlike:
        raise RunError(
            "the run in --out differs: " + "; ".join(unlike),
            "give another --out, or leave these options as they were",
        )


def different(
    identity: dict[str, Any], before: dict[str, Any], *, leaving_out: Collection[str] = ()
) -> list[str]:
    """What would mix two runs' figures, one line each."""
    return [
        f"{_NAMES.get(key, key)} is {_shown(before.get(key))} there, {_shown(value)} now"
        for key, value in identity.items()
        if before.get(key) != value and key not in leaving_out
    ]


def continued(run: dict[str, Any], earlier: dict[str, Any]) -> dict[str, Any]:
    """run.json of the run that goes on: its own request, the earlier one's history."""
    chosen = earlier["model"]["preprocessing"]
    checked = earlier if earlier["config"].get("soundness") != "off" else run
    return run | {
        "model": run["model"] | {"preprocessing": chosen},
        "config": run["config"] | {"preprocess": earlier["config"]["preprocess"]},
        "findings": [
            *(found for found in checked["findings"] if found["check"] != BUDGET),
            *(found for found in run["findings"] if found["check"] == BUDGET),
            *(
                found
                for found in run["findings"]
                if found["check"] == PRESET and found not in checked["findings"]
            ),
        ],
        "probes": earlier.get("probes", {}),
        "shrunk_from": earlier.get("shrunk_from", []),
        "starts": earlier.get("starts", {}),
        "config_file": run["config_file"] or earlier.get("config_file"),
        "timings": earlier["timings"],
        "provenance": run["provenance"] | {"started": earlier["provenance"]["started"]},
    }


def _shown(value: object) -> str:
    text = str(value)
    return text if len(text) <= 40 else text[:39] + "…"

"""What a run tested, what it did not, and what no run of this kind can say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from advcli.attacks.registry import FITTED, NAMES, NATURAL, attack_class
from advcli.threats.budget import NORMS, format_eps

__all__ = ["LIMITS", "not_tested", "tested"]

_SEES = {
    "gradient": "the model's gradients (white box)",
    "scores": "the model's scores (black box)",
    "decision": "the predicted class alone (black box)",
    "none": "nothing of the model",
}
LIMITS = (
    "Every robust accuracy is an upper bound: a stronger attack may fool more images. No figure is "
    "a proof of robustness.",
    "Threat model: someone who changes the pixels of a digital image of the model's input size "
    "within the stated budget, once the model is trained. Poisoned training data, backdoors, "
    "extraction of the model, attacks on confidentiality, objects in the physical world, and the "
    "system around the model were not tested.",
    "The figures are of this model file, by its hash, with this preprocessing. Another file, or "
    "the same one fed differently, has to be tested anew.",
    "Intervals are 95 % and cover the drawing of the images alone: they say nothing of images of "
    "another kind, nor of attacks that were not run.",
    "Robust accuracy counts a mistake on the unperturbed image as not robust, weighs every image "
    "alike and no mistake more than another.",
)


def tested(run: Mapping[str, Any], summary: Mapping[str, Any]) -> list[str]:
    """Sentences, one per threat."""
    images = summary["images"]
    said = [
        f"{summary['clean']['total']} of {images['count']} images of {images['root']}, unperturbed"
    ]
    aim = run["config"]["targeted"]
    goal = "any other class" if aim is None else f"the class asked for ({aim})"
    for phase in run["phases"]:
        where = "without a norm"
        if phase["norm"] is not None:
            where = f"in {phase['norm']} at eps {', '.join(map(format_eps, phase['eps']))}"
        said.append(f"{phase['attack']} {where}: sees {_SEES[phase['access']]}; goal: {goal}")
    surrogate = run.get("surrogate")
    if surrogate:
        said.append(
            f"transfer: the attacks saw another model ({surrogate['path']}, sha256 "
            f"{surrogate['sha256']}); its images were judged on the model once"
        )
    for threat in dict.fromkeys(row["attack"] for row in summary["natural"]):
        kinds = dict.fromkeys(row["kind"] for row in summary["natural"] if row["attack"] == threat)
        said.append(f"{threat}, a natural threat: {', '.join(kinds)}")
    return said


def not_tested(run: Mapping[str, Any], summary: Mapping[str, Any]) -> list[dict[str, str]]:
    """`{topic, detail}` for all that a reader could take for tested."""
    return [
        {"topic": topic, "detail": detail}
        for part in (_threats(run, summary), _sample(summary), _checks(run, summary))
        for topic, detail in part
    ]


def _threats(run: Mapping[str, Any], summary: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    phases = run["phases"]
    norms = [norm for norm in NORMS if any(phase["norm"] == norm for phase in phases)]
    left = [norm for norm in NORMS if norm not in norms]
    if left:
        yield "norms", f"perturbations measured in {', '.join(left)}"
    for norm in norms:
        largest = max(eps for phase in phases if phase["norm"] == norm for eps in phase["eps"])
        yield "budgets", f"perturbations in {norm} larger than {format_eps(largest)}"
    seen = {phase["access"] for phase in phases}
    for access in ("gradient", "scores", "decision"):
        if access not in seen:
            yield "access", f"attackers who see {_SEES[access]}"
    ran = {phase["attack"].partition(":")[0] for phase in phases}
    for norm in norms:
        others = [n for n in (*NAMES, *FITTED) if n not in ran and norm in attack_class(n).norms]
        if others:
            yield "attacks", f"in {norm}, of this tool's own: {', '.join(others)}"
    without = [n for n in FITTED if n not in ran and not attack_class(n).norms]
    if without:
        yield "attacks", f"without a norm: {', '.join(without)}"
    natural = {row["attack"].partition(":")[0] for row in summary["natural"]}
    absent = [name for name in NATURAL if name not in natural]
    if absent:
        yield "natural threats", ", ".join(absent)
    for finding in summary["soundness"]["findings"]:
        if finding["check"] == "preset":
            yield "preset", finding["detail"]
    if phases and run["config"]["targeted"] is None:
        yield "goals", "targeted attacks: whether a class of the attacker's choice can be reached"
    elif phases:
        yield "goals", "untargeted attacks, and so no worst case"
    if phases and not run.get("surrogate"):
        yield "transfer", "images crafted on another model"


def _sample(summary: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    images = summary["images"]
    left = images["count"] - images["evaluated"]
    if left > 0:
        yield "images", f"{left} of the {images['count']} images in the folder"
    if images["skipped"]:
        files = len(images["skipped"])
        yield "images", f"{files} file(s) that were skipped or could not be read: see images.csv"
    budget = images.get("time_budget")
    if budget and budget["images"] < budget["of"]:
        yield "images", "those that the time budget left no time for; the others are a fair sample"
    if images["labels"] == "model":
        yield "labels", "whether the model is right: its own prediction was the reference"
    known = {row["class"] for row in summary["per_class"]}
    empty = [name for name in summary["model"]["classes"] if name not in known]
    if empty:
        yield "classes", f"{len(empty)} without an image: {', '.join(empty)}"
    errors = summary["clean"].get("errors", 0)
    errors += sum(row["errors"] for row in (*summary["attacks"], *summary["natural"]))
    if errors:
        yield "errors", f"{errors} answer(s) ended in an error and are neither robust nor broken"


def _checks(run: Mapping[str, Any], summary: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    level = run["config"].get("soundness", "fast")
    if level == "off":
        yield "soundness", "whether the attacks can be believed: the checks were off"
    elif level != "full" or not run.get("probes"):
        yield "soundness", "the probes of --soundness full"
    if summary["pixels"] == "float":
        yield "pixels", "images as 8-bit files hold them: pixels were real numbers"

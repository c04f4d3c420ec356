"""Which requirement, and which technique of an attacker, the evidence of a run is relevant to.

Relevant, not sufficient: no row says that a requirement is met. Subjects are in our own words;
the sources, by their versions, are the texts to read.

Regulation (EU) 2024/1689, Article 15 and Annex IV; NIST AI 100-1 (AI RMF 1.0), MEASURE 2; MITRE
ATLAS 5.6.0 (mitre-atlas/atlas-data, dist/ATLAS.yaml), whose ids and names are used as they are.
"""

from __future__ import annotations

from typing import Any, NamedTuple

__all__ = ["SOURCES", "requirements", "techniques"]

_ACT = "EU AI Act"
_RMF = "NIST AI RMF"
_ATLAS = "MITRE ATLAS"
SOURCES = {
    _ACT: "Regulation (EU) 2024/1689 of 13 June 2024, Official Journal L of 12 July 2024",
    _RMF: "AI Risk Management Framework 1.0, NIST AI 100-1, January 2023",
    _ATLAS: "ATLAS data 5.6.0 of 30 April 2026 (mitre-atlas/atlas-data, dist/ATLAS.yaml)",
}


class _Requirement(NamedTuple):
    framework: str
    reference: str
    subject: str
    evidence: str
    files: tuple[str, ...]
    needs: str = ""  # the section of the summary without which there is nothing to show


_REQUIREMENTS = (
    _Requirement(
        _ACT,
        "Article 15(1)",
        "a level of accuracy, robustness and cybersecurity that suits the purpose",
        "accuracy of this model file, unperturbed and under attack, with intervals; whether that "
        "level suits the purpose is for the provider to say",
        ("figures.md", "summary.json"),
    ),
    _Requirement(
        _ACT,
        "Article 15(3)",
        "accuracy and its metrics, declared in the instructions for use",
        "accuracy on the images listed, in all and by class",
        ("figures.md", "figures.csv"),
    ),
    _Requirement(
        _ACT,
        "Article 15(4)",
        "resilience to errors, faults and inconsistencies",
        "accuracy under natural corruptions and shifts of the pictures",
        ("figures.md", "figures.csv"),
        needs="natural",
    ),
    _Requirement(
        _ACT,
        "Article 15(5)",
        "resilience to third parties who exploit weaknesses: adversarial examples, model evasion",
        "robust accuracy under the attacks that were run; poisoning of data or model and attacks "
        "on confidentiality, which the paragraph names too, were not tested",
        ("evidence.md", "figures.md", "summary.json"),
        needs="attacks",
    ),
    _Requirement(
        _ACT,
        "Annex IV, point 2(g)",
        "how it was validated and tested, on which data, by which metrics; dated and signed logs",
        "the test log, the configuration, the list of images with hashes, the metrics; dated by "
        "the run, to be signed by the person responsible",
        ("evidence.md", "evidence.json", "images.csv", "run.json", "MANIFEST.sha256"),
    ),
    _Requirement(
        _ACT,
        "Annex IV, point 3",
        "what the system can do and where its limits are, its accuracy for particular groups too",
        "accuracy by class, and the limits stated in this document",
        ("evidence.md", "figures.csv"),
    ),
    _Requirement(
        _ACT,
        "Annex IV, point 4",
        "why the performance metrics are appropriate",
        "what each metric counts and what it leaves out; why that suits the system is for the "
        "provider to say",
        ("evidence.md", "figures.md"),
    ),
    _Requirement(
        _RMF,
        "MEASURE 2.1",
        "test sets, metrics and tools of the testing are documented",
        "images with hashes, metrics, versions and command",
        ("evidence.md", "images.csv", "run.json"),
    ),
    _Requirement(
        _RMF,
        "MEASURE 2.5",
        "limits of how far results carry beyond the conditions of the test are documented",
        "what was not tested, and the limits of the method",
        ("evidence.md", "evidence.json"),
    ),
    _Requirement(
        _RMF,
        "MEASURE 2.7",
        "security and resilience are evaluated and documented",
        "robust accuracy under the attacks that were run, and whether they can be believed",
        ("evidence.md", "figures.md", "summary.json"),
        needs="attacks",
    ),
)

_NAMES = {
    "AML.T0005": "Create Proxy AI Model",
    "AML.T0015": "Evade AI Model",
    "AML.T0040": "AI Model Inference API Access",
    "AML.T0043": "Craft Adversarial Data",
    "AML.T0043.000": "White-Box Optimization",
    "AML.T0043.001": "Black-Box Optimization",
    "AML.T0043.002": "Black-Box Transfer",
    "AML.T0043.003": "Manual Modification",
    "AML.T0043.004": "Insert Backdoor Trigger",
    "AML.T0044": "Full AI Model Access",
}
# what an attack may see -> how the image is crafted, and the access that this takes
_CRAFTED = {
    "gradient": ("AML.T0043.000", "AML.T0044"),
    "scores": ("AML.T0043.001", "AML.T0040"),
    "decision": ("AML.T0043.001", "AML.T0040"),
    "none": ("AML.T0043",),  # blind: no sub-technique describes it
}
_TRANSFERRED = ("AML.T0043.002", "AML.T0005")
_GOAL = "AML.T0015"
_CRAFTING = tuple(f"AML.T0043.{number:03d}" for number in range(5))


def requirements(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """`{framework, reference, subject, relevant, evidence, files}`; not `relevant`: what would be
    was not run."""
    rows = []
    for row in _REQUIREMENTS:
        relevant = not row.needs or bool(summary[row.needs])
        rows.append(
            {
                "framework": row.framework,
                "reference": row.reference,
                "subject": row.subject,
                "relevant": relevant,
                "evidence": row.evidence if relevant else "not tested in this run",
                "files": list(row.files) if relevant else [],
            }
        )
    return rows


def techniques(phases: list[dict[str, Any]], *, transfer: bool) -> dict[str, Any]:
    """`{attacks: [{attack, norm, techniques}], not_exercised: [technique]}`, a technique being
    `{id, name}`. `phases` as in run.json. Natural threats have no attacker, and no technique."""
    attacks = []
    used: set[str] = set()
    for phase in phases:
        access = phase["access"]
        found = _TRANSFERRED if transfer and access != "none" else _CRAFTED[access]
        used.update(found)
        named = [_technique(identifier) for identifier in (_GOAL, *found)]
        attacks.append({"attack": phase["attack"], "norm": phase["norm"], "techniques": named})
    unused = [_technique(identifier) for identifier in _CRAFTING if identifier not in used]
    return {"attacks": attacks, "not_exercised": unused}


def _technique(identifier: str) -> dict[str, str]:
    return {"id": identifier, "name": _NAMES[identifier]}

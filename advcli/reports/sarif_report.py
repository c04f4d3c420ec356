"""SARIF 2.1.0 for code scanning: a result for each gate that did not pass.

OASIS, "Static Analysis Results Interchange Format (SARIF) Version 2.1.0". A failed gate is an
`error`, one without a verdict a `warning`; the location is the model file. A failure that is waived
is a result that is suppressed, with the reason.
"""

from __future__ import annotations

import json
from pathlib import PurePath
from typing import Any
from urllib.parse import quote

from advcli.audit.drop import GATE
from advcli.audit.waivers import accepted
from advcli.images.text import printable
from advcli.reports import figures

__all__ = ["render"]

_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_RULE = "robustness-gate"
_LEVELS = {"fail": "error", "inconclusive": "warning"}


def render(summary: dict[str, Any]) -> str:
    failed = [gate for gate in summary["gates"] if gate["verdict"] in _LEVELS]
    driver = {
        "name": "advcli",
        "version": summary["advcli_version"],
        "rules": [
            {
                "id": _RULE,
                "shortDescription": {"text": "The model's robustness is below its gate"},
                "help": {"text": "advcli evaluate MODEL IMAGES --fail-under shows the figures"},
            }
        ],
    }
    run = {
        "tool": {"driver": driver},
        "invocations": [
            {
                "executionSuccessful": summary["exit_code"] in (0, 1),
                "exitCode": summary["exit_code"],
            }
        ],
        "results": [_result(summary, gate) for gate in failed],
    }
    return json.dumps({"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2) + "\n"


def _result(summary: dict[str, Any], gate: dict[str, Any]) -> dict[str, Any]:
    text = (
        f"{figures.gate_name(gate)}: {figures.percent(gate['value'])} measured on "
        f"{summary['images']['evaluated']} images, {figures.percent(gate['threshold'])} asked"
    )
    if gate["gate"] == GATE or figures.unsettled(gate):
        text = f"{figures.gate_name(gate)}: {figures.gate_text(gate)}"
    if gate["verdict"] == "inconclusive" and not figures.unsettled(gate):
        text += f"; no verdict: {figures.doubts(summary)}"
    waiver = figures.waiver(gate)
    text += f"; {waiver}" if waiver else ""
    suppression = {"kind": "external", "status": "accepted", "justification": printable(waiver)}
    sha256 = summary["model"]["sha256"]
    return {
        "ruleId": _RULE,
        "level": _LEVELS[gate["verdict"]],
        "message": {"text": printable(text)},
        "locations": [
            {
                "physicalLocation": {
                    "artifactLocation": {"uri": _uri(summary["model"]["path"])},
                    "region": {"startLine": 1},
                }
            }
        ],
        "partialFingerprints": {"gate/v1": printable(str(gate["gate"])), "model/v1": sha256},
        "suppressions": [suppression] if accepted(gate) else [],
    }


def _uri(path: str) -> str:
    """A relative reference, or a file URI; undecodable bytes as they are."""
    # A first part with a colon would be taken for a scheme, which quoting the colon prevents.
    shown = quote(PurePath(path).as_posix().encode("utf-8", "surrogateescape"), safe="/")
    return f"file://{shown}" if shown.startswith("/") else shown

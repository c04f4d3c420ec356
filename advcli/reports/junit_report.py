"""JUnit XML for CI systems: a suite of the gates, and one per threat with a case for each class.

The form that Jenkins, GitLab and GitHub's reporters read (junit-10.xsd of Jenkins's xUnit plugin).
A gate that failed is a failure, or skipped while that is waived; one without a verdict, and a run
that ended without one, an error.
Classes have no gate of their own here: their cases carry the figure.
"""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

from advcli.audit.waivers import accepted
from advcli.images.text import printable
from advcli.reports import figures

__all__ = ["render"]


def render(summary: dict[str, Any]) -> str:
    root = ElementTree.Element("testsuites", name="advcli")
    gates = _suite(root, summary, "gates", summary["engine"]["seconds"])
    for gate in summary["gates"]:
        case = _case(gates, "gates", figures.gate_name(gate))
        measured = figures.gate_and_waiver(gate)
        if accepted(gate):
            ElementTree.SubElement(case, "skipped", message=printable(measured))
        elif gate["verdict"] == "fail":
            _problem(case, "failure", "not robust enough", measured)
        elif figures.unsettled(gate):
            _problem(case, "error", "no verdict", measured)
        elif gate["verdict"] != "pass":
            _problem(case, "error", "no verdict", f"{measured}; {figures.doubts(summary)}")
        elif figures.waiver(gate):
            ElementTree.SubElement(case, "system-out").text = printable(measured)
    silent = summary["exit_code"] == 3 and gates.find("*/error") is None
    if silent or not summary["gates"]:
        case = _case(gates, "gates", "run")
        if silent:
            _problem(case, "error", "no verdict", figures.doubts(summary))
    for threat in summary["worst_case"]:
        name = figures.budget(threat["norm"], threat["eps"])
        suite = _suite(root, summary, name, 0.0)
        for row in summary["per_class"]:
            here = [
                figure
                for figure in row["worst_case"]
                if (figure["norm"], figure["eps"]) == (threat["norm"], threat["eps"])
            ]
            case = _case(suite, name, str(row["class"]))
            text = ElementTree.SubElement(case, "system-out")
            text.text = (
                f"robust accuracy {figures.percent(here[0]['robust_accuracy'] if here else None)}, "
                f"clean {figures.percent(row['clean_accuracy'])} of {row['total']} images"
            )
    for element in root.iter("testsuite"):
        element.set("tests", str(len(element.findall("testcase"))))
        for kind in ("failure", "error"):
            element.set(f"{kind}s", str(len(element.findall(f"testcase/{kind}"))))
        element.set("skipped", str(len(element.findall("testcase/skipped"))))
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, "unicode") + "\n"


def _suite(
    root: ElementTree.Element, summary: dict[str, Any], name: str, seconds: float
) -> ElementTree.Element:
    suite = ElementTree.SubElement(root, "testsuite", name=name, time=f"{seconds:.3f}")
    properties = ElementTree.SubElement(suite, "properties")
    model = summary["model"]
    for key, value in (
        ("model", model["path"]),
        ("sha256", model["sha256"]),
        ("preprocessing", model["preprocessing"]["flag"]),
        ("images", summary["images"]["evaluated"]),
        ("soundness", summary["soundness"]["verdict"]),
    ):
        ElementTree.SubElement(properties, "property", name=key, value=printable(str(value)))
    return suite


def _case(suite: ElementTree.Element, group: str, name: str) -> ElementTree.Element:
    return ElementTree.SubElement(
        suite, "testcase", classname=f"advcli.{group}", name=printable(name), time="0"
    )


def _problem(case: ElementTree.Element, kind: str, what: str, detail: str) -> None:
    found = ElementTree.SubElement(case, kind, type=what, message=printable(detail))
    found.text = printable(detail)

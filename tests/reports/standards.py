"""What a document must be to be read by others: SARIF, JUnit XML, CycloneDX, and summary.json.

CycloneDX: the official JSON Schema of 1.6, which `cyclonedx-python-lib` ships, by its strict
validator. summary.json: advcli's own published schema.

No package that pip or npm installs carries the schema of SARIF or of JUnit, so theirs are stated
here, for what advcli writes and closed to all else, by what the standards require:

- SARIF 2.1.0 (OASIS, with Errata 01): the objects sarifLog, run, tool, toolComponent,
  reportingDescriptor, invocation, result, message, location, physicalLocation, artifactLocation,
  region and suppression: required properties, types, enumerations; and that a result's rule is one
  of its tool's, and that either every result of a run has `suppressions` or none.
- junit-10.xsd (Jenkins's xUnit plugin): elements, their order, required attributes.
"""

from __future__ import annotations

import json
import re
from importlib.resources import files
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree

import jsonschema
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

Schema = dict[str, Any]

SUMMARY: Schema = json.loads(
    files("advcli.reports").joinpath("summary.schema.json").read_text(encoding="utf-8")
)
TEXT: Schema = {"type": "string", "minLength": 1}


def closed(required: Schema, **optional: Schema) -> Schema:
    """An object of these properties and no others."""
    return {
        "type": "object",
        "required": list(required),
        "properties": required | optional,
        "additionalProperties": False,
    }


def listed(item: Schema, **more: Any) -> Schema:
    return {"type": "array", "items": item, **more}


URI = {"type": "string", "format": "uri-reference"}
MESSAGE = closed({"text": TEXT})
RULE = closed({"id": TEXT}, shortDescription=MESSAGE, help=MESSAGE)
REGION = closed({"startLine": {"type": "integer", "minimum": 1}})
PHYSICAL = closed({"artifactLocation": closed({"uri": URI})}, region=REGION)
SUPPRESSION = closed(
    {"kind": {"enum": ["inSource", "external"]}},
    status={"enum": ["accepted", "underReview", "rejected"]},
    justification={"type": "string"},
)
RESULT = closed(
    {"message": MESSAGE},
    ruleId=TEXT,
    level={"enum": ["none", "note", "warning", "error"]},
    locations=listed(closed({"physicalLocation": PHYSICAL})),
    partialFingerprints={"type": "object", "additionalProperties": {"type": "string"}},
    suppressions=listed(SUPPRESSION, uniqueItems=True),
)
INVOCATION = closed({"executionSuccessful": {"type": "boolean"}}, exitCode={"type": "integer"})
DRIVER = closed({"name": TEXT}, version=TEXT, rules=listed(RULE, uniqueItems=True))
RUN = closed(
    {"tool": closed({"driver": DRIVER})}, invocations=listed(INVOCATION), results=listed(RESULT)
)
SARIF = closed({"version": {"const": "2.1.0"}, "runs": listed(RUN)})
SARIF["properties"]["$schema"] = {"type": "string", "format": "uri"}

# element -> (required attributes, optional ones, elements in it, whether it holds text)
TIME = re.compile(r"(([0-9]{0,3},)*[0-9]{3}|[0-9]{0,3})*(\.[0-9]{0,3})?")
PROBLEM = (set[str](), {"type", "message"}, set[str](), True)
JUNIT: dict[str, tuple[set[str], set[str], set[str], bool]] = {
    "testsuites": (set(), {"name", "time", "tests", "failures", "errors"}, {"testsuite"}, False),
    "testsuite": (
        {"name", "tests", "failures", "errors"},
        {"group", "time", "skipped", "timestamp", "hostname", "id", "package", "file", "log"},
        {"properties", "testcase", "system-out", "system-err"},
        False,
    ),
    "properties": (set(), set(), {"property"}, False),
    "property": ({"name", "value"}, set(), set(), False),
    "testcase": (
        {"name"},
        {"time", "classname", "group"},
        {"skipped", "error", "failure", "system-out", "system-err"},
        False,
    ),
    **dict.fromkeys(("failure", "error", "skipped"), PROBLEM),
    **dict.fromkeys(("system-out", "system-err"), (set(), set(), set(), True)),
}


def strictly(text: str) -> Any:
    """JSON as the standard has it: Python's own reader takes NaN and Infinity too."""

    def refuse(name: str) -> None:
        raise ValueError(f"{name} is no JSON")

    return json.loads(text, parse_constant=refuse)


def complaints(document: Any, schema: Schema) -> list[str]:
    validator = jsonschema.Draft202012Validator(
        schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
    )
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(document)]


def check_summary(summary: dict[str, Any] | str) -> None:
    text = summary if isinstance(summary, str) else json.dumps(summary)
    assert complaints(strictly(text), SUMMARY) == []


def check_sarif(text: str) -> None:
    document = strictly(text)
    assert complaints(document, SARIF) == []
    for run in document["runs"]:
        rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
        assert len(set(rules)) == len(rules)
        assert {result["ruleId"] for result in run["results"]} <= set(rules)
        assert len({"suppressions" in result for result in run["results"]}) <= 1
        for result in run["results"]:
            for location in result["locations"]:
                uri = location["physicalLocation"]["artifactLocation"]["uri"]
                # RFC 3986: a scheme or a path without a colon in its first segment, no raw signs
                assert re.fullmatch(
                    r"(?:[a-z][a-z0-9+.-]*:|(?![^/]*:))[\w/.~%!$&'()*+,;=:@-]*", uri
                )
                assert uri.isascii()
                assert unquote(uri)


def check_junit(text: str) -> None:
    root = ElementTree.fromstring(text)
    assert root.tag == "testsuites"
    for element in root.iter():
        required, optional, within, holds_text = JUNIT[element.tag]
        assert required <= set(element.keys()) <= required | optional, element.tag
        assert {child.tag for child in element} <= within, element.tag
        assert holds_text or not (element.text or "").strip(), element.tag
        if element.tag in ("testsuite", "testsuites") and "time" in element.attrib:
            assert TIME.fullmatch(element.attrib["time"])
    for suite in root.iter("testsuite"):
        cases = suite.findall("testcase")
        for name, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            found = sum(case.find(tag) is not None for case in cases)
            assert suite.get(name, "0") == str(found)
        assert suite.get("tests") == str(len(cases))


def check_cyclonedx(text: str) -> None:
    strictly(text)
    found = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    assert found is None, str(found)

"""Every document validates, and the checks refuse what is wrong."""

import copy
import json
import math
from collections.abc import Iterator
from functools import cache
from typing import Any
from xml.etree import ElementTree

import pytest

from advcli.audit.summary import summarise
from advcli.reports import files

from ..audit import test_deciding, test_natural
from ..audit.support import Ledger, answer, clean, phase, run_of
from . import test_html, test_reports, test_waivers
from .standards import SUMMARY, check_junit, check_sarif, check_summary, complaints, strictly


def whole(summary: dict[str, Any]) -> dict[str, Any]:
    """A summary made by hand, with what a real one says of its model."""
    model = {
        "keras_version": "3.13.2",
        "rules": [],
        "input_shape": [8, 8, 1],
        "preprocessing": {
            "name": "unit",
            "scale": 1.0,
            "mean": [0.0],
            "std": [1.0],
            "channels": "rgb",
            "evidence": "--preprocess",
            "flag": "unit",
        },
    }
    known: dict[str, Any] = json.loads(json.dumps(summary))
    return known | {"model": known["model"] | model}


def dropped(summary: dict[str, Any]) -> dict[str, Any]:
    """As beside a baseline that was better: a gate on a difference."""
    gate = {"gate": "baseline", "threshold": -0.02, "value": -0.1, "ci95": [-0.2, -0.01]}
    more = {"verdict": "fail", "images_needed": None, "doubt": None, "where": "linf 0.1"}
    return summary | {"gates": [gate | more | {"waiver": None}]}


def doubted(**config: Any) -> dict[str, Any]:
    """Suspect of itself, not changed afterwards."""
    lines = [clean(str(i), 0, 0) for i in range(10)]
    lines += [answer(str(i), 0, success=False, distance=None, nonfinite=True) for i in range(10)]
    return summarise(run_of([phase()], **config), Ledger.read(lines))


ASKED = ("40", "clean=90", "linf@0.1=80")
ALL = {
    **test_html.ALL,
    **{state: lambda state=state: test_waivers.summary(state) for state in test_waivers.STATES},
    "gates": lambda: test_reports.summary(fail_under=ASKED),
    "inconclusive": lambda: test_reports.suspicious(fail_under=ASKED),
    "no verdict": test_reports.suspicious,
    "doubted": lambda: doubted(fail_under=ASKED),
    "unchecked": lambda: test_reports.summary(soundness="off"),
    "confident": lambda: test_deciding.summary(
        {0.1: 40}, 100, confident=True, fail_under=("40", "41", "10")
    ),
    "corruptions": lambda: test_natural.by_hand(("snow", "fog"), {("fog", 5, "0")}),
    "one of two waived": lambda: summarise(
        run_of(
            [phase()],
            fail_under=("99",),
            gates=[{"gate": "98", "accept": {"until": "2027-03-31", "reason": "later"}}],
        )
        | {"judged_on": "2027-03-01"},
        Ledger.read([clean("a", 0, 0), answer("a", 1, success=True)]),
    ),
    "drop": lambda: dropped(test_reports.summary()),
}


@cache
def made(name: str) -> dict[str, Any]:
    return whole(ALL[name]())


@pytest.mark.parametrize("name", ALL)
def test_documents_are_what_their_standards_say(name: str) -> None:
    found = made(name)
    check_summary(files.render(found, "json"))
    check_sarif(files.render(found, "sarif"))
    check_junit(files.render(found, "junit"))


def test_the_cases_are_there() -> None:
    """So that what is validated here is not a choice of easy ones."""
    every = [*map(made, ALL)]
    gates = [gate for found in every for gate in found["gates"]]
    assert {gate["verdict"] for gate in gates} == {"pass", "fail", "inconclusive"}
    assert {gate["doubt"] for gate in gates} >= {None, "interval", "suspect"}
    assert {gate["waiver"] and gate["waiver"]["state"] for gate in gates} >= {
        *(None, "accepted", "expired", "unneeded"),
    }
    verdicts = {found["soundness"]["verdict"] for found in every}
    assert verdicts == {"sound", "suspect", "unchecked"}
    for section in ("attacks", "worst_case", "curve", "natural", "natural_means", "per_class"):
        assert any(found[section] for found in every), section


# --- summary.json


def keys(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        yield from schema.get("properties", {})
        for part in schema.values():
            yield from keys(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from keys(part)


def used(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from value
        for part in value.values():
            yield from used(part)
    elif isinstance(value, list):
        for part in value:
            yield from used(part)


def test_the_schema_describes_every_section_and_nothing_that_does_not_exist() -> None:
    every = [*map(made, ALL)]
    top = set().union(*every)
    assert top == set(SUMMARY["properties"])
    beyond_hand = {"base_accuracy", "new_accuracy", "newly_broken", "fixed", "difference", "p"}
    beyond_hand |= {"run", "images", "threats", "threat", "paired"}  # a real baseline: audit tests
    beyond_hand |= {"file", "reason"}
    assert set(keys(SUMMARY)) - set(used(every)) <= beyond_hand
    row = next(found["attacks"][0] for found in every if found["attacks"])
    assert set(row) == set(SUMMARY["$defs"]["attack"]["properties"])


def test_extra_keys_are_welcome() -> None:
    found = whole(test_reports.summary(fail_under=ASKED))
    for part in (found, found["attacks"][0], found["gates"][0], found["model"], found["images"]):
        part["of a later version"] = {"x": 1}
    check_summary(found)


def put(found: Any, path: str, value: Any) -> None:
    *way, last = path.split(".")
    for part in way:
        found = found[int(part) if isinstance(found, list) else part]
    found[int(last) if isinstance(found, list) else last] = value


BROKEN = {
    "clean.accuracy": (40, "0.4", -0.1),
    "clean.ci95": ([0.1], [0.1, 0.2, 0.3], [10, 20], "0.1-0.2"),
    "attacks.0.robust_accuracy": (40, 1.0001, -1e-9, "NaN"),
    "attacks.0.success_rate": (96.5,),
    "attacks.0.norm": ("linfty", 8),
    "attacks.0.eps": (-0.1, "8/255"),
    "attacks.0.broken": (1.5, -1, None),
    "attacks.0.median_distance": (-1, "inf"),
    "worst_case.0.broken_by": ({"pgd": "all"}, []),
    "per_class.0.class": (0, None),
    "gates.0.threshold": (40, None, -0.02),
    "gates.0.value": (43, -0.5),
    "gates.0.verdict": ("none", "PASS"),
    "gates.0.doubt": ("unsure",),
    "gates.0.waiver": ({"reason": "later"}, "later"),
    "soundness.verdict": ("ok", None),
    "soundness.findings": ([{"check": "finite", "verdict": "bad", "detail": ""}], None),
    "verdict": ("passed", None),
    "exit_code": (2, 130, "0"),
    "model.sha256": ("ab", None),
    "model.input_shape": ([8, 8], [0, 8, 1]),
    "model.classes": ("cat", [1]),
    "images.labels": ("csv",),
    "engine.batch_size": (0,),
    "schema_version": (2, "1"),
    "confusion.0.counts": ([[0, 1]], [[0, 1, 0]]),
}


@pytest.mark.parametrize("path", BROKEN)
def test_the_schema_refuses_a_wrong_value(path: str) -> None:
    found = whole(test_reports.summary(fail_under=ASKED))
    check_summary(found)
    for value in BROKEN[path]:
        broken = copy.deepcopy(found)
        put(broken, path, value)
        assert complaints(broken, SUMMARY), value


def test_a_drop_may_be_negative_and_no_other_gate() -> None:
    found = whole(dropped(test_reports.summary()))
    check_summary(found)
    found["gates"][0]["gate"] = "40"
    assert complaints(found, SUMMARY)


def test_the_schema_refuses_a_missing_key() -> None:
    found = whole(test_reports.summary(fail_under=ASKED))
    parts = {"": found, "model": found["model"], "images": found["images"]}
    parts |= {"attack": found["attacks"][0], "gate": found["gates"][0]}
    count = 0
    for name, part in parts.items():
        schema = SUMMARY["$defs"][name] if name else SUMMARY
        for key in schema["required"]:
            kept = part.pop(key)
            assert complaints(found, SUMMARY), key
            part[key] = kept
            count += 1
    assert count == 16 + 7 + 5 + 17 + 5
    check_summary(found)


def test_nan_is_no_json() -> None:
    found = whole(test_reports.summary())
    found["clean"]["accuracy"] = math.nan
    with pytest.raises(ValueError, match="NaN is no JSON"):
        strictly(json.dumps(found))
    check_summary(files.render(found, "json"))  # written as null
    found["engine"]["seconds"] = math.inf
    assert complaints(strictly(files.render(found, "json")), SUMMARY)


# --- the checks of SARIF and JUnit themselves


def changed(text: str, path: str, value: Any) -> str:
    document = json.loads(text)
    put(document, path, value)
    return json.dumps(document)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("version", "2.1"),
        ("runs.0.tool", {}),
        ("runs.0.tool.driver.name", ""),
        ("runs.0.invocations.0", {"exitCode": 1}),
        ("runs.0.results.0.level", "fatal"),
        ("runs.0.results.0.message", {}),
        ("runs.0.results.0.ruleId", "another"),
        ("runs.0.results.0.Level", "error"),
        ("runs.0.results.0.suppressions", [{"status": "accepted"}]),
        ("runs.0.results.0.partialFingerprints", {"a": 1}),
        ("runs.0.results.0.locations.0.physicalLocation.region.startLine", 0),
        ("runs.0.results.0.locations.0.physicalLocation.artifactLocation.uri", "a b.h5"),
        ("runs.0.results.0.locations.0.physicalLocation.artifactLocation.uri", "ü.h5"),
    ],
)
def test_wrong_sarif_is_refused(path: str, value: Any) -> None:
    text = files.render(test_reports.summary(fail_under=("99",)), "sarif")
    check_sarif(text)
    with pytest.raises(AssertionError):
        check_sarif(changed(text, path, value))


@pytest.mark.parametrize(
    "wrong",
    [
        lambda root: root[0].attrib.pop("tests"),
        lambda root: root[0].set("failures", "7"),
        lambda root: root[0].set("time", "1.23456"),
        lambda root: root[0].set("colour", "red"),
        lambda root: root.find(".//testcase").attrib.pop("name"),
        lambda root: ElementTree.SubElement(root.find(".//testcase"), "note"),
        lambda root: root.append(ElementTree.Element("testcase", name="x")),
        lambda root: setattr(root[0], "text", "words"),
    ],
)
def test_wrong_junit_is_refused(wrong: Any) -> None:
    text = files.render(test_reports.summary(fail_under=("99",)), "junit")
    check_junit(text)
    root = ElementTree.fromstring(text)
    wrong(root)
    with pytest.raises(AssertionError):
        check_junit(ElementTree.tostring(root, "unicode"))


def test_a_run_without_an_image_has_documents_too() -> None:
    lines = [clean("a", 0, None, sha256=None, error="damaged"), clean("b", 0, 0)]
    run = run_of([phase()], fail_under=("40",))
    lines += [answer("b", None, success=False, distance=None, error="out of memory")]
    found = whole(summarise(run, Ledger.read(lines)))
    assert found["images"]["skipped"]
    assert found["exit_code"] == 3
    check_summary(files.render(found, "json"))
    check_sarif(files.render(found, "sarif"))
    check_junit(files.render(found, "junit"))

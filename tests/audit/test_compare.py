"""Two runs on the same images, from journals made by hand."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from advcli.audit.compare import compare, with_gate
from advcli.audit.directory import RunDirectory
from advcli.audit.natural import NaturalPhase
from advcli.audit.side import Side
from advcli.audit.statistics import mcnemar
from advcli.errors import AdvcliError, RunError
from advcli.reports import figures

from .support import answer, clean, finished, phase

Table = dict[str, tuple[bool, bool]]  # image -> right unperturbed, stands under pgd


def lines_of(table: Table, prefix: str = "") -> list[dict[str, Any]]:
    lines = [clean(prefix + i, 0, int(not right), sha256=i) for i, (right, _) in table.items()]
    return lines + [
        answer(prefix + i, int(not stands), success=not stands)
        for i, (right, stands) in table.items()
        if right
    ]


def pair(tmp_path: Path, base: Table, new: Table, **more: Any) -> dict[str, Any]:
    sides = [
        finished(tmp_path / name, lines_of(table, f"{name}/"), [phase()], **more)
        for name, table in (("base", base), ("new", new))
    ]
    return compare(*map(Side.read, sides))


def row(found: dict[str, Any], threat: str) -> dict[str, Any]:
    (one,) = [row for row in found["threats"] if row["threat"] == threat]
    return one


TABLES = st.dictionaries(
    st.sampled_from([f"{i:02}" for i in range(30)]),
    st.tuples(st.booleans(), st.booleans()),
    min_size=1,
)


@settings(max_examples=25, deadline=None)
@given(TABLES, TABLES)
def test_every_image_is_counted_once(
    tmp_path_factory: pytest.TempPathFactory, base: Table, new: Table
) -> None:
    tmp_path = tmp_path_factory.mktemp("pair")
    common = base.keys() & new.keys()
    if not common:
        with pytest.raises(RunError, match="no image is in both"):
            pair(tmp_path, base, new)
        return
    found = pair(tmp_path, base, new)
    assert found["images"] == {
        "paired": len(common),
        "only_base": len(base.keys() - new.keys()),
        "only_new": len(new.keys() - base.keys()),
        "relabelled": 0,
        "repeated": 0,
    }
    for threat in ("clean", "pgd linf 0.1", "worst case linf 0.1"):
        one = row(found, threat)
        before, after = (
            {i: t[i][0] and (threat == "clean" or t[i][1]) for i in common} for t in (base, new)
        )
        changes = Counter((before[i], after[i]) for i in common)
        assert one["both_robust"] == changes[True, True]
        assert one["newly_broken"] == changes[True, False]
        assert one["fixed"] == changes[False, True]
        assert one["both_broken"] == changes[False, False]
        assert one["base_accuracy"] == sum(before.values()) / len(common)
        assert one["new_accuracy"] == sum(after.values()) / len(common)
        assert one["p"] == mcnemar(changes[True, False], changes[False, True])
        named = {entry["sha256"]: entry for entry in one["newly_broken_images"]}
        assert set(named) == {i for i in common if before[i] and not after[i]}
        assert all(e["image"] == f"new/{i}" for i, e in named.items())
        assert all(e["base_image"] == f"base/{i}" for i, e in named.items())


STANDING: Table = {f"{i}": (True, True) for i in range(20)}
HALF: Table = {f"{i}": (True, i % 2 == 0) for i in range(20)}


def test_a_run_against_itself_changes_nothing(tmp_path: Path) -> None:
    found = pair(tmp_path, HALF, HALF)
    for one in found["threats"]:
        assert (one["newly_broken"], one["fixed"], one["p"], one["difference"]) == (0, 0, 1.0, 0.0)
    assert any("same model" in note for note in found["notes"])
    json.dumps(found)


def test_repeated_files_count_once_and_other_labels_not_at_all(tmp_path: Path) -> None:
    same = [clean("x", 0, 0, sha256="s"), clean("y", 0, 0, sha256="s"), clean("z", 0, 0)]
    base = [*same, clean("w", 1, 1, sha256="w")]
    new = [*same, clean("w", 2, 2, sha256="w")]
    names = ("base", "new")
    for name, lines in zip(names, (base, new), strict=True):
        lines += [answer(i, lines[-1]["label"], success=False) for i in "w"]
        finished(tmp_path / name, lines + [answer(i, 0, success=False) for i in "xyz"], [phase()])
    found = compare(*(Side.read(tmp_path / name) for name in names))
    assert found["images"] == {
        "paired": 2, "only_base": 1, "only_new": 1, "relabelled": 1, "repeated": 2
    }  # fmt: skip
    assert row(found, "clean")["paired"] == 2


def test_one_picture_under_two_labels_is_two_images(tmp_path: Path) -> None:
    lines = [clean("a", 0, 0, sha256="s"), clean("b", 1, 0, sha256="s")]
    lines.append(answer("a", 0, success=False))
    for name in ("base", "new"):
        finished(tmp_path / name, lines, [phase()])
    found = compare(Side.read(tmp_path / "base"), Side.read(tmp_path / "new"))
    assert found["images"]["paired"] == 2
    assert found["images"]["relabelled"] == found["images"]["repeated"] == 0
    assert row(found, "clean")["both_robust"] == 1


def test_without_labels_each_models_own_answer_is_its_reference(tmp_path: Path) -> None:
    for name, label in (("base", 0), ("new", 1)):
        lines = [clean("a", label, label, sha256="s"), answer("a", label, success=False)]
        finished(tmp_path / name, lines, [phase()], identity={"labels": "model"})
    found = compare(Side.read(tmp_path / "base"), Side.read(tmp_path / "new"))
    assert found["images"]["paired"] == 1
    assert any("own clean prediction" in note for note in found["notes"])


# --- the same figures as the summary's


def sides(tmp_path: Path, lines: list[dict[str, Any]], phases: list[Any], **more: Any) -> Side:
    return Side.read(finished(tmp_path / "run", lines, phases, **more))


def agrees(side: Side, root: Path) -> None:
    """Every row of the summary is what the letters say."""
    summary = RunDirectory(root).read_summary()
    letters = {threat.name: letters for threat, letters in side.standing.items()}
    rows = [(summary["clean"]["correct"], summary["clean"]["total"], "clean")]
    for one in summary["attacks"]:
        at = "" if one["eps"] is None else f" {one['norm']} {one['eps']:g}"
        rows.append((one["robust"], one["total"], f"{one['attack']}{at}"))
        assert letters[rows[-1][2]].count("e") == one["errors"]
    for one in summary["worst_case"]:
        count = round(one["robust_accuracy"] * one["total"])
        rows.append((count, one["total"], f"worst case {one['norm']} {one['eps']:g}"))
    for one in summary["natural"]:
        name = f"{one['attack']} {one['kind']} {one['severity']}"
        rows.append((one["correct"], one["total"], name))
    assert {name for *_, name in rows} == set(letters)
    for count, total, name in rows:
        assert letters[name].count("1") == count, name
        assert len(letters[name]) - letters[name].count("-") == total, name


def test_a_cascade(tmp_path: Path) -> None:
    phases = [phase("fgsm", cascade=True), phase("pgd", cascade=True)]
    lines = [clean(i, 0, int(i == "e")) for i in "abcde"]
    lines += [answer(i, int(i in "ab"), success=i in "ab", attack="fgsm") for i in "abcd"]
    lines += [answer(i, int(i == "c"), success=i == "c") for i in "cd"]
    side = sides(tmp_path, lines, phases)
    agrees(side, tmp_path / "run")
    by_name = {threat.name: threat for threat in side.standing}
    assert by_name["fgsm linf 0.1"].among == ()
    assert by_name["pgd linf 0.1"].among == ("fgsm",)
    assert by_name["worst case linf 0.1"].among == ("fgsm", "pgd")


def test_budgets_and_smallest_perturbations(tmp_path: Path) -> None:
    phases = [phase("pgd", "l2", (0.5, 1.0)), phase("cw", "l2", (0.5, 2.0))]
    lines = [clean(i, 0, 0) for i in "abc"]
    for i, at in {"a": 0.4, "b": 1.5, "c": None}.items():
        more = {"attack": "cw", "norm": "l2", "eps": None, "distance": at or 0.0}
        lines.append(answer(i, 1, success=at is not None, **more))
        lines.append(answer(i, 0, success=False, norm="l2", eps=0.5))
        lines.append(answer(i, int(i == "c"), success=i == "c", norm="l2", eps=1.0))
    agrees(sides(tmp_path, lines, phases), tmp_path / "run")


def test_errors_are_letters_of_their_own_and_left_out(tmp_path: Path) -> None:
    phases = [phase("pgd"), phase("fgsm")]
    lines = [clean(i, 0, 0) for i in "abc"]
    failed = {"success": False, "distance": None, "error": "changed"}
    lines += [
        answer("a", None, **failed),
        answer("b", None, **failed),
        answer("c", 0, success=False),
    ]
    lines += [answer(i, int(i == "b"), success=i == "b", attack="fgsm") for i in "abc"]
    side = sides(tmp_path, lines, phases)
    agrees(side, tmp_path / "run")
    letters = {threat.name: letters for threat, letters in side.standing.items()}
    assert letters["pgd linf 0.1"] == "ee1"
    assert letters["worst case linf 0.1"] == "e01"  # fgsm broke b, whatever pgd did
    found = with_gate(compare(side, side), 0.0, confident=False)
    assert row(found, "worst case linf 0.1")["paired"] == 2
    assert row(found, "worst case linf 0.1")["errors"] == 1
    assert (found["gates"][0]["doubt"], found["exit_code"]) == ("errors", 3)


def test_targeted_runs(tmp_path: Path) -> None:
    lines = [clean(i, label, label, target=1) for i, label in zip("abc", (0, 1, 2), strict=True)]
    lines += [answer("a", 1, success=True), answer("c", 2, success=False)]
    for name in ("run", "other"):
        finished(tmp_path / name, lines, [phase()], targeted="c1")
    side = Side.read(tmp_path / "run")
    agrees(side, tmp_path / "run")
    found = compare(side, Side.read(tmp_path / "other"), gate=True)
    assert row(found, "pgd linf 0.1")["gated"]
    assert row(found, "pgd linf 0.1")["paired"] == 2


def natural_lines(fooled: str) -> list[dict[str, Any]]:
    asked = {"attack": "corruption:kinds=fog", "norm": None, "kind": "fog", "found": None}
    return [
        answer(i, int(i in fooled), success=i in fooled, eps=None, severity=severity, **asked)
        for i in "abc"
        for severity in range(1, 6)
    ]


def test_natural_threats(tmp_path: Path) -> None:
    natural = NaturalPhase.from_dict({"attack": "corruption:kinds=fog"}).as_dict()
    for name, fooled in (("base", "a"), ("new", "ab")):
        lines = [*(clean(i, 0, 0) for i in "abc"), *natural_lines(fooled)]
        finished(tmp_path / name, lines, [], run={"natural": [natural]})
        agrees(Side.read(tmp_path / name), tmp_path / name)
    found = compare(Side.read(tmp_path / "base"), Side.read(tmp_path / "new"), gate=True)
    one = row(found, "corruption:kinds=fog fog 3")
    assert (one["newly_broken"], one["both_broken"], one["gated"]) == (1, 1, True)
    assert (one["kind"], one["severity"]) == ("fog", 3)


def test_images_that_were_deselected_are_not_compared(tmp_path: Path) -> None:
    root = finished(tmp_path / "run", lines_of(HALF), [phase()])
    run = RunDirectory(root).read_run()
    run["images"]["selected"] = ["0", "1"]
    RunDirectory(root).write_run(run)
    side = Side.read(root)
    assert (len(side.images), side.repeated) == (2, 0)


def test_a_side_survives_json(tmp_path: Path) -> None:
    side = sides(tmp_path, lines_of(HALF), [phase(eps=(0.1, 0.2))])
    again = Side.from_dict(json.loads(json.dumps(side.as_dict())))
    assert again == side
    assert [threat.key for threat in again.standing] == [threat.key for threat in side.standing]


# --- what cannot be compared


@pytest.mark.parametrize(
    ("identity", "said"),
    [
        (
            {"preprocess": [255.0, [1.0], [1.0], "bgr"]},
            r"scale=255.0,mean=1.0,std=1.0,channels=bgr",
        ),
        ({"pixels": "float"}, "--pixels is uint8 in BASE, float in NEW"),
        ({"resize": "crop"}, "--resize is stretch in BASE, crop in NEW"),
        ({"resample": "nearest"}, "--resample"),
        ({"exif": "ignore"}, "--exif"),
        ({"targeted": "next"}, "--targeted is none in BASE, next in NEW"),
        ({"surrogate": "ff", "surrogate_preprocess": None}, "the surrogate is none in BASE, ff"),
        ({"classes": ["c0", "x\x1b", "c2"]}, r"class 1 is 'c1' in BASE, 'x\\x1b' in NEW"),
        ({"classes": ["c0"]}, "there are 3 classes in BASE, 1 in NEW"),
        ({"labels": "model"}, "the reference is labels in BASE, the model in NEW"),
    ],
)
def test_other_conditions_are_refused(tmp_path: Path, identity: dict[str, Any], said: str) -> None:
    base = finished(tmp_path / "base", lines_of(HALF), [phase()])
    new = finished(tmp_path / "new", lines_of(HALF), [phase()], identity=identity)
    with pytest.raises(RunError, match=said) as refused:
        compare(Side.read(base), Side.read(new))
    assert refused.value.hint
    assert "\x1b" not in refused.value.message


def test_one_formula_may_be_written_in_two_ways(tmp_path: Path) -> None:
    for name, formula in (
        ("base", [255, [1], [2.0], "rgb"]),
        ("new", [255.0, [1.0] * 3, [2.0] * 3, "rgb"]),
    ):
        root = finished(
            tmp_path / name, lines_of(HALF), [phase()], identity={"preprocess": formula}
        )
        run = RunDirectory(root).read_run()
        run["model"]["input_shape"] = [8, 8, 3]
        RunDirectory(root).write_run(run)
    assert compare(Side.read(tmp_path / "base"), Side.read(tmp_path / "new"))["threats"]


def test_another_input_size_is_refused(tmp_path: Path) -> None:
    base = finished(tmp_path / "base", lines_of(HALF), [phase()])
    run = RunDirectory(base).read_run()
    run["model"]["input_shape"] = [9, 8, 1]
    finished(tmp_path / "new", lines_of(HALF), [phase()], run={"model": run["model"]})
    with pytest.raises(RunError, match="the input is 8x8x1 in BASE, 9x8x1 in NEW"):
        compare(Side.read(base), Side.read(tmp_path / "new"))


def test_other_attacks_are_refused_or_left_out(tmp_path: Path) -> None:
    def side(name: str, *phases: Any) -> Side:
        lines = [clean("a", 0, 0), clean("b", 0, 0)]
        for one in phases:
            more = {"attack": one.spec, "eps": one.eps[0]}
            lines += [answer(i, 0, success=False, **more) for i in "ab"]
        return Side.read(finished(tmp_path / name, lines, list(phases)))

    pgd, stronger = side("1", phase()), side("2", phase("pgd:steps=100"))
    for other in (stronger, side("3", phase(eps=(0.2,))), side("4", phase("fgsm"))):
        with pytest.raises(RunError, match="share no threat"):
            compare(pgd, other)
    both = side("5", phase(), phase("fgsm"))
    found = compare(pgd, both)
    assert [one["threat"] for one in found["threats"]] == ["clean", "pgd linf 0.1"]
    assert found["left_out"] == [
        "worst case linf 0.1: of pgd in BASE, of fgsm, pgd in NEW",
        "fgsm linf 0.1: only in NEW",
    ]
    with pytest.raises(RunError, match="share no threat"):  # a gate is on a worst case
        compare(pgd, both, gate=True)
    cascade = [phase("fgsm", cascade=True), phase(cascade=True)]
    with pytest.raises(RunError, match="share no threat"):  # other images reach pgd there
        compare(pgd, side("6", *cascade))
    # the images that stand under the same attacks are the same, in a cascade or not
    shown = [one["threat"] for one in compare(both, side("7", *cascade))["threats"]]
    assert shown == ["clean", "fgsm linf 0.1", "worst case linf 0.1"]


def test_an_attack_that_meant_something_else_is_refused(tmp_path: Path) -> None:
    base = finished(tmp_path / "base", lines_of(HALF), [phase()])
    run = RunDirectory(base).read_run()
    run["phases"][0]["options"]["steps"] = 7
    RunDirectory(base).write_run(run)
    new = finished(tmp_path / "new", lines_of(HALF), [phase()])
    with pytest.raises(
        RunError, match="'pgd linf' means two things: steps is 7 in BASE, 40 in NEW"
    ):
        compare(Side.read(base), Side.read(new))


def test_a_run_that_is_none_or_not_finished(tmp_path: Path) -> None:
    with pytest.raises(AdvcliError):
        Side.read(tmp_path / "nowhere")
    root = finished(tmp_path / "run", lines_of(HALF), [phase()])
    (root / "summary.json").rename(tmp_path / "kept")
    with pytest.raises(RunError, match="not finished") as refused:
        Side.read(root)
    assert "--resume" in refused.value.hint
    (tmp_path / "kept").rename(root / "summary.json")
    for wrong in ("{}", '{"config": 1, "model": [], "images": {"selected": null}}', "[]", "x"):
        (root / "run.json").write_text(wrong)
        with pytest.raises(RunError):
            Side.read(root)


# --- notes and the gate


def test_what_a_reader_should_know(tmp_path: Path) -> None:
    model = {"model": {"path": "n.h5", "sha256": "cd" * 32, "classes": ["c0", "c1", "c2"],
                       "preprocessing": {"flag": "unit"}, "input_shape": [8, 8, 1]}}  # fmt: skip
    suspect = {"findings": [{"check": "x", "verdict": "suspect", "detail": "masked"}]}
    base = finished(tmp_path / "base", lines_of(HALF), [phase()])
    new = finished(tmp_path / "new", lines_of(HALF), [phase()], seed=4, run=model | suspect)
    notes = " / ".join(compare(Side.read(base), Side.read(new))["notes"])
    assert "the seeds differ (0 in BASE, 4 in NEW)" in notes
    assert "the figures of NEW are suspect" in notes
    assert "BASE are suspect" not in notes
    assert "same model" not in notes


def gate_of(tmp_path: Path, broken: int, fixed: int, points: float, **more: Any) -> dict[str, Any]:
    n = 200
    base = {f"{i}": (True, not 100 <= i < 100 + fixed) for i in range(n)}
    new = {f"{i}": (True, i >= broken) for i in range(n)}
    found = with_gate(pair(tmp_path, base, new), points, confident=more.pop("confident", False))
    (one,) = found["gates"]
    assert (found["verdict"], one["where"]) == (one["verdict"], "worst case linf 0.1")
    assert one["value"] == (fixed - broken) / n
    return one | {"exit_code": found["exit_code"]}


@pytest.mark.parametrize(
    ("broken", "fixed", "points", "verdict"),
    [
        *[(0, 0, 0, "pass"), (1, 0, 0, "fail"), (1, 1, 0, "pass"), (0, 5, 0, "pass")],
        *[(7, 3, 2, "pass"), (8, 3, 2, "fail"), (67, 0, 33.5, "pass"), (68, 0, 33.5, "fail")],
    ],
)
def test_a_drop_beyond_what_is_allowed_fails(
    tmp_path: Path, broken: int, fixed: int, points: float, verdict: str
) -> None:
    gate = gate_of(tmp_path, broken, fixed, points)
    assert gate["verdict"] == verdict
    assert gate["exit_code"] == {"pass": 0, "fail": 1}[verdict]
    assert gate["threshold"] == pytest.approx(-points / 100)


@pytest.mark.parametrize(
    ("broken", "fixed", "points", "verdict"),
    [
        *[(0, 0, 0, "inconclusive"), (0, 0, 5, "pass"), (12, 3, 0, "fail")],
        *[(6, 3, 0, "inconclusive"), (12, 3, 5, "inconclusive")],
        *[(40, 0, 5, "fail"), (0, 20, 0, "pass")],
    ],
)
def test_with_confidence_only_the_whole_interval_decides(
    tmp_path: Path, broken: int, fixed: int, points: float, verdict: str
) -> None:
    gate = gate_of(tmp_path, broken, fixed, points, confident=True)
    assert gate["verdict"] == verdict
    low, high = gate["ci95"]
    expected = (
        "pass" if low >= -points / 100 else "fail" if high < -points / 100 else "inconclusive"
    )
    assert verdict == expected
    assert (gate["images_needed"] is not None) == (
        verdict == "inconclusive" and (fixed, points) != (0, 0)
    )


def test_a_suspect_run_does_not_pass(tmp_path: Path) -> None:
    found = pair(tmp_path, HALF, HALF)
    found["new"]["soundness"] = "suspect"
    assert with_gate(found, 0.0, confident=False)["exit_code"] == 3
    worse = pair(tmp_path / "2", STANDING, HALF)
    worse["new"]["soundness"] = "suspect"
    assert with_gate(worse, 0.0, confident=False)["exit_code"] == 1
    assert with_gate(worse, None, confident=False)["exit_code"] == 0


def test_few_shared_images_pass_no_gate(tmp_path: Path) -> None:
    """Half of the smaller run is enough; whether a gate fails is not touched."""
    found = pair(tmp_path, HALF, HALF)
    shared = found["images"]["paired"]
    for only, code in ((shared, 0), (shared + 1, 3)):
        found["images"] |= {"only_base": only, "only_new": 10 * only}
        gate = with_gate(found, 0.0, confident=False)
        assert gate["exit_code"] == code
        said = "too few images are in both runs" in figures.gate_text(gate["gates"][0])
        assert said == (code == 3)
    worse = pair(tmp_path / "2", STANDING, HALF)
    worse["images"] |= {"only_base": 10 * shared, "only_new": 10 * shared}
    assert with_gate(worse, 0.0, confident=False)["exit_code"] == 1

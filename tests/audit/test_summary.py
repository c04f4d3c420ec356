import json
import math
from collections import Counter
from random import Random

import pytest

from advcli.audit.journal import dumps
from advcli.audit.ledger import Ledger
from advcli.audit.summary import missing, summarise

from .support import answer, clean, phase, run_of, summary_of

# fmt: off
TOP = [
    "schema_version", "advcli_version", "verdict", "exit_code", "model", "images", "pixels",
    "clean", "attacks", "worst_case", "curve", "natural", "natural_means", "per_class",
    "confusion", "baseline", "soundness", "gates", "engine", "provenance",
]
ROW = [
    "attack", "options", "norm", "eps", "robust_accuracy", "success_rate", "robust", "broken",
    "errors", "attempted", "total", "ci95", "median_distance", "forwards", "gradients",
    "forwards_per_image", "gradients_per_image", "seconds", "images_per_second",
    "fitted",
]
# fmt: on


def test_the_keys_are_the_published_ones() -> None:
    found = summary_of([clean("a", 0, 0), answer("a", 1, success=True)], [phase()])
    assert list(found) == TOP
    assert list(found["attacks"][0]) == ROW
    assert list(found["worst_case"][0]) == [
        *("norm", "eps", "robust_accuracy", "ci95", "total", "broken_by")
    ]
    assert list(found["per_class"][0]) == ["class", "total", "clean_accuracy", "worst_case"]
    assert {"accuracy", "correct", "total", "ci95"} <= set(found["clean"])
    assert {"root", "count", "evaluated", "skipped", "labels"} <= set(found["images"])
    assert {"device", "compiled", "batch_size", "seconds", "model_seconds"} <= set(found["engine"])
    json.loads(dumps(found))


def test_a_clean_mistake_is_not_robust_and_not_attacked() -> None:
    lines = [clean("a", 0, 0), clean("b", 0, 1), answer("a", 0, success=False)]
    row = summary_of(lines, [phase()])["attacks"][0]
    assert (row["attempted"], row["robust"], row["total"]) == (1, 1, 2)
    assert row["robust_accuracy"] == 0.5
    assert row["success_rate"] == 0.0


@pytest.mark.parametrize("first", [0, 1])
def test_fooled_at_one_budget_is_fooled_at_the_larger_whichever_was_asked_first(first) -> None:
    asked = [
        answer("a", 1, success=True, eps=0.1),
        answer("a", 0, success=False, eps=0.2, distance=0.2),
    ]
    lines = [clean("a", 0, 0), asked[first], asked[1 - first]]
    summary = summary_of(lines, [phase(eps=(0.05, 0.1, 0.2))])
    assert [row["robust"] for row in summary["attacks"][-2:]] == [0, 0]


def test_nothing_attacked_has_no_success_rate() -> None:
    row = summary_of([clean("a", 0, 1)], [phase()])["attacks"][0]
    assert row["success_rate"] is None
    assert row["robust_accuracy"] == 0.0


def test_perturbed_clean_mistakes_do_not_count() -> None:
    lines = [clean("a", 0, 0), clean("b", 0, 1), answer("a", 0, success=False)]
    before = summary_of(lines, [phase()])
    after = summary_of([*lines, answer("b", 2, success=True)], [phase()])
    for key in ("clean", "worst_case", "per_class"):
        assert after[key] == before[key]
    same = set(ROW) - {"forwards", "gradients"}
    assert {k: after["attacks"][0][k] for k in same} == {k: before["attacks"][0][k] for k in same}


def test_worst_case_is_every_attack_together() -> None:
    phases = [phase("pgd"), phase("fgsm")]
    lines = [clean(i, 0, 0) for i in "abcd"]
    lines += [answer(i, 1 if i == "a" else 0, success=i == "a") for i in "abcd"]
    lines += [answer(i, 1 if i == "b" else 0, success=i == "b", attack="fgsm") for i in "abcd"]
    found = summary_of(lines, phases)
    assert [row["robust_accuracy"] for row in found["attacks"]] == [0.75, 0.75]
    assert found["worst_case"][0]["robust_accuracy"] == 0.5
    assert found["worst_case"][0]["broken_by"] == {"pgd": 1, "fgsm": 1}


def test_a_cascade_is_cumulative() -> None:
    phases = [phase("fgsm", cascade=True), phase("pgd", cascade=True)]
    lines = [clean(i, 0, 0) for i in "abcd"]
    lines += [answer(i, 1 if i in "ab" else 0, success=i in "ab", attack="fgsm") for i in "abcd"]
    lines += [answer(i, 1 if i == "c" else 0, success=i == "c") for i in "cd"]
    found = summary_of(lines, phases)
    first, second = found["attacks"]
    assert (first["attempted"], first["robust"]) == (4, 2)
    assert (second["attempted"], second["broken"], second["robust"]) == (2, 1, 1)
    assert (second["robust_accuracy"], second["success_rate"]) == (0.25, 0.5)
    assert found["worst_case"][0]["robust_accuracy"] == 0.25


def test_a_minimum_norm_attack_has_a_row_per_eps() -> None:
    one = phase("cw", "l2", (0.5, 1.0, 2.0))
    lines = [clean(i, 0, 0) for i in "abc"]
    found_at = {"a": 0.5, "b": 1.5, "c": None}
    lines += [
        answer(i, 1, success=d is not None, attack="cw", norm="l2", eps=None, distance=d or 0.0)
        for i, d in found_at.items()
    ]
    found = summary_of(lines, [one])
    assert [row["broken"] for row in found["attacks"]] == [1, 1, 2]
    assert [row["success_rate"] for row in found["attacks"]] == pytest.approx([1 / 3, 1 / 3, 2 / 3])
    assert [row["median_distance"] for row in found["attacks"]] == [1.5] * 3
    assert [row["robust_accuracy"] for row in found["worst_case"]] == pytest.approx(
        [2 / 3, 2 / 3, 1 / 3]
    )


def test_a_minimum_norm_result_counts_at_the_budgets_of_others() -> None:
    phases = [phase("pgd", "l2", (1.0,)), phase("cw", "l2", (3.0,))]
    lines = [clean("a", 0, 0), answer("a", 0, success=False, norm="l2", eps=1.0)]
    lines.append(answer("a", 1, success=True, attack="cw", norm="l2", eps=None, distance=0.9))
    worst = {row["eps"]: row["robust_accuracy"] for row in summary_of(lines, phases)["worst_case"]}
    assert worst == {1.0: 0.0, 3.0: 0.0}


def test_targeted_runs_have_no_worst_case_and_skip_the_targets_own_class() -> None:
    lines = [
        clean("a", 0, 0, target=1),
        clean("b", 1, 1, target=1),
        clean("c", 0, 0, target=1),
        clean("d", 0, 0, target=1),
        answer("a", 1, success=True),
        answer("c", 2, success=False),  # another class: not robust, but no success
        answer("d", 0, success=False),
    ]
    found = summary_of(lines, [phase()], targeted="c1")
    row = found["attacks"][0]
    assert found["worst_case"] == []
    assert (row["attempted"], row["total"], row["broken"], row["robust"]) == (3, 3, 2, 1)
    assert row["success_rate"] == pytest.approx(1 / 3)


def test_confusion_is_what_each_image_is_taken_for() -> None:
    """Against a count that goes image by image, over random journals."""
    for seed in range(30):
        random = Random(seed)
        phases = [phase("fgsm", eps=(0.1, 0.2)), phase("cw", eps=(0.1,)), phase(eps=(0.2,))]
        labels = {f"{i}": random.randrange(3) for i in range(40)}
        before = {i: random.choice((label, label, label, 0)) for i, label in labels.items()}
        lines = [clean(i, labels[i], before[i]) for i in labels]
        taken: dict[float, dict[str, int | None]] = {0.1: {}, 0.2: {}}
        for i in labels:
            if before[i] != labels[i]:
                taken[0.1][i] = taken[0.2][i] = before[i]
                continue
            said: dict[tuple[str, float], tuple[float, int | None]] = {}
            for name, eps in (("fgsm", 0.1), ("fgsm", 0.2), ("cw", None), ("pgd", 0.2)):
                lost, failed = random.random() < 0.3, random.random() < 0.1
                found = random.choice([c for c in range(3) if c != labels[i]])
                far = random.choice((0.05, 0.15, 0.25)) if eps is None else eps
                said[name, eps or 0.0] = far, None if failed else found if lost else labels[i]
                lines.append(
                    answer(
                        i,
                        None if failed else found if lost else labels[i],
                        success=lost and not failed,
                        attack=name,
                        eps=eps,
                        distance=far,
                        error="broken" if failed else None,
                    )
                )
            if said["fgsm", 0.1][1] not in (None, labels[i]) and said["fgsm", 0.2][1] == labels[i]:
                said["fgsm", 0.2] = said["fgsm", 0.1]  # fooled at one eps is fooled at every larger
            for eps in taken:
                asked = [said["fgsm", eps], said["cw", 0.0], *([said["pgd", 0.2]] * (eps == 0.2))]
                breaks = [c for far, c in asked if c not in (None, labels[i]) and far <= eps]
                errors = any(c is None for _, c in asked)
                taken[eps][i] = breaks[0] if breaks else None if errors else labels[i]
        found = summary_of(lines, phases)
        expected = {None: before, **taken}
        assert [entry["eps"] for entry in found["confusion"]] == [None, 0.1, 0.2]
        for entry in found["confusion"]:
            pairs = Counter((labels[i], c) for i, c in expected[entry["eps"]].items())
            assert {(a, b): n for a, b, n in entry["counts"]} == pairs
        for row, entry in zip(found["worst_case"], found["confusion"][1:], strict=True):
            right = sum(n for a, b, n in entry["counts"] if a == b)
            assert row["robust_accuracy"] == right / 40


def test_a_targeted_run_has_the_clean_confusion_alone() -> None:
    lines = [clean("a", 0, 0, target=1), clean("b", 2, None, target=1, error="not finite")]
    found = summary_of([*lines, answer("a", 1, success=True)], [phase()], targeted="c1")
    assert found["confusion"] == [
        {"norm": None, "eps": None, "counts": [[0, 0, 1], [2, None, 1]]},
    ]


def test_an_error_is_neither_robust_nor_broken() -> None:
    lines = [clean(i, 0, 0) for i in "ab"]
    lines += [
        answer("a", 0, success=False),
        answer("b", None, success=False, distance=None, error="unreadable"),
    ]
    found = summary_of(lines, [phase()])
    row = found["attacks"][0]
    assert (row["robust"], row["broken"], row["errors"], row["attempted"]) == (1, 0, 1, 2)
    assert found["worst_case"][0]["robust_accuracy"] == 0.5


def test_unread_files_are_skipped_not_evaluated() -> None:
    lines = [clean("a", 0, 0), clean("b", 0, None, sha256=None, error="truncated")]
    found = summary_of([*lines, answer("a", 0, success=False)], [phase()])
    assert found["images"]["skipped"] == [{"file": "b", "reason": "truncated"}]
    assert found["clean"]["total"] == 1
    assert found["exit_code"] == 0


def unread(image: str, label: int | None) -> dict:
    return clean(image, label, None, sha256=None, error="truncated")


def test_a_gate_does_not_pass_on_what_unreadable_files_left() -> None:
    readable = [clean(f"{i}", 0, 0) for i in range(19)]
    readable += [answer(f"{i}", 0, success=False) for i in range(19)]
    one, two = [unread("a\x1b[2J", 0)], [unread("a", 0), unread("b", 0)]
    found = summary_of([*readable, *one], [phase()], fail_under=("40",))  # 5 %
    finding = found["soundness"]["findings"][0]
    assert (finding["check"], finding["verdict"]) == ("unreadable-images", "note")
    assert r"1 of 20 images could not be read (a\x1b[2J)" in finding["detail"]
    assert (found["verdict"], found["exit_code"]) == ("pass", 0)
    found = summary_of([*readable, *two], [phase()], fail_under=("40",))
    assert found["soundness"]["findings"][0]["verdict"] == "suspect"
    assert (found["verdict"], found["exit_code"]) == ("inconclusive", 3)
    four = [unread(name, 0) for name in "abcd"]
    detail = summary_of([*readable, *four], [phase()])["soundness"]["findings"][0]["detail"]
    assert "(a, b, c and 1 more)" in detail
    assert "findings" in summary_of(readable, [phase()])["soundness"]
    assert summary_of(readable, [phase()])["soundness"]["findings"] == []


def test_a_class_that_lost_all_its_images_makes_a_run_suspect() -> None:
    lines = [clean(f"{i}", 0, 0) for i in range(99)]
    lines += [answer(f"{i}", 0, success=False) for i in range(99)]
    run = run_of([phase()])
    ledger = Ledger.read([*lines, unread("x", 1)])
    run["images"]["per_class"] = {"0": 99, "1": 2}  # the other of class 1 was not in the sample
    assert summarise(run, ledger)["soundness"]["findings"][0]["verdict"] == "note"
    run["images"]["per_class"] = {"0": 99, "1": 1}
    finding = summarise(run, ledger)["soundness"]["findings"][0]
    assert finding["verdict"] == "suspect"
    assert "no image is left of 1 class(es): c1" in finding["detail"]


def test_a_model_that_answers_nan_is_a_finding_and_an_error() -> None:
    lines = [clean("a", 0, None, error="the model's output is not finite")]
    found = summary_of(lines, [phase()])
    assert found["clean"]["errors"] == 1
    assert found["soundness"]["verdict"] == "suspect"
    assert found["exit_code"] == 3


def test_zero_gradients_make_a_run_suspect() -> None:
    lines = [clean(i, 0, 0) for i in "ab"]
    lines += [answer(i, 0, success=False, gradients=4, stalled=3) for i in "ab"]
    assert summary_of(lines, [phase()])["soundness"]["verdict"] == "suspect"
    fine = [line | {"stalled": 2} if "stalled" in line else line for line in lines]
    assert summary_of(fine, [phase()])["soundness"]["verdict"] == "sound"


def test_only_the_sample_of_a_lowered_limit_counts() -> None:
    lines = [clean(i, 0, 0) for i in "ab"] + [answer(i, 0, success=False) for i in "ab"]
    found = summary_of(lines, [phase()], selected=["b"])
    assert found["clean"]["total"] == found["attacks"][0]["total"] == 1


def test_infinities_are_null_in_json() -> None:
    assert dumps({"a": [math.inf, (math.nan,)]}) == '{"a": [null, [null]]}'


def test_missing_counts_open_questions() -> None:
    phases = [phase("fgsm", cascade=True), phase("pgd", cascade=True)]
    lines = [clean(i, 0, 0) for i in "ab"]
    lines += [answer(i, 1 if i == "a" else 0, success=i == "a", attack="fgsm") for i in "ab"]
    assert missing(Ledger.read(lines), phases) == 1
    assert missing(Ledger.read([*lines, answer("b", 0, success=False)]), phases) == 0
    assert run_of(phases)["phases"][0]["cascade"] is True

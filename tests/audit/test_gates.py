import pytest

from advcli.audit.gates import check_classes, check_planned, judge, parse_gate, parse_points
from advcli.errors import UsageError

from .support import answer, clean, phase, summary_of


@pytest.mark.parametrize(
    ("text", "kind", "subject", "eps", "threshold"),
    [
        ("40", "worst", "", None, 0.4),
        ("40%", "worst", "", None, 0.4),
        ("0", "worst", "", None, 0.0),
        ("100", "worst", "", None, 1.0),
        ("1", "worst", "", None, 0.01),
        ("0.5%", "worst", "", None, 0.005),
        ("clean=90", "clean", "", None, 0.9),
        ("pgd=33.3", "attack", "pgd", None, 0.333),
        ("pgd@8/255=40", "attack", "pgd", 8 / 255, 0.4),
        ("pgd:steps=100=40", "attack", "pgd:steps=100", None, 0.4),
        ("linf@8/255=40%", "norm", "linf", 8 / 255, 0.4),
        ("class:a=b@c=30", "class", "a=b@c", None, 0.3),
    ],
)
def test_what_gates_say(
    text: str, kind: str, subject: str, eps: float | None, threshold: float
) -> None:
    gate = parse_gate(text)
    assert (gate.kind, gate.subject, gate.eps, gate.threshold) == (kind, subject, eps, threshold)


@pytest.mark.parametrize(
    "text",
    [
        "=5",
        "1e-30000000",
        "1/3",
        "clean=4_0",
        "0.4",
        "pgd=.5",
        "-1",
        "101",
        "forty",
        "",
        "nan",
        "inf",
        "linf=40",
        "@0.1=40",
        "=40=x",
    ],
)
def test_what_is_no_gate(text: str) -> None:
    with pytest.raises(UsageError):
        parse_gate(text)


def test_points_of_a_drop() -> None:
    assert [parse_points(text) for text in ("0", "2", "0.5", "100")] == [0, 2, 0.5, 100]
    for text in ("-1", "101", "nan", "inf", "two", "", "2%"):
        with pytest.raises(UsageError, match="--max-drop"):
            parse_points(text)


@pytest.mark.parametrize("text", ["cw=40", "pgd@0.2=40", "l2@0.1=40", "linf@0.2=40"])
def test_a_gate_on_what_is_not_run(text: str) -> None:
    with pytest.raises(UsageError, match="not run here"):
        check_planned([parse_gate(text)], [phase()], targeted=False)


def test_targeted_attacks_have_no_worst_case() -> None:
    with pytest.raises(UsageError, match="worst case"):
        check_planned([parse_gate("40")], [phase()], targeted=True)
    check_planned([parse_gate("pgd=40")], [phase()], targeted=True)


def test_a_gate_on_a_class_that_is_not_there() -> None:
    with pytest.raises(UsageError, match="no class 'cow'"):
        check_classes([parse_gate("class:cow=1")], ["cat", "dog"])


def summary(robust: int, total: int = 10, **config: object) -> dict:
    lines = [clean(str(i), 0, 0) for i in range(total)]
    lines += [answer(str(i), 0 if i < robust else 1, success=i >= robust) for i in range(total)]
    return summary_of(lines, [phase()], **config)


def verdict(found: dict) -> tuple[str, int]:
    return found["verdict"], found["exit_code"]


def test_equality_passes_and_one_image_less_fails() -> None:
    assert verdict(summary(4, fail_under=("40",))) == ("pass", 0)
    assert verdict(summary(3, fail_under=("40",))) == ("fail", 1)
    assert verdict(summary(3, fail_under=("40",), exit_zero=True)) == ("fail", 0)
    assert verdict(summary(333, 1000, fail_under=("33.3",))) == ("pass", 0)
    assert verdict(summary(332, 1000, fail_under=("33.3",))) == ("fail", 1)
    assert verdict(summary(3)) == ("none", 0)


def test_every_scope_reads_its_own_figure() -> None:
    found = summary(
        4, fail_under=("clean=100", "pgd=41", "pgd@0.1=39", "linf@0.1=40", "class:c0=41")
    )
    assert [(g["value"], g["verdict"]) for g in found["gates"]] == [
        (1.0, "pass"),
        (0.4, "fail"),
        (0.4, "pass"),
        (0.4, "pass"),
        (0.4, "fail"),
    ]


def test_suspect_figures_can_fail_but_not_pass() -> None:
    for robust, expected in ((4, ("inconclusive", 3)), (3, ("fail", 1))):
        found = summary(robust, fail_under=("40",))
        found["soundness"]["verdict"] = "suspect"
        assert verdict(judge([parse_gate("40")], found, exit_zero=False)) == expected


def test_exit_zero_turns_nothing_but_a_failed_gate_into_zero() -> None:
    found = summary(4)
    found["soundness"]["verdict"] = "suspect"
    assert judge([parse_gate("40")], found, exit_zero=True)["exit_code"] == 3


def test_errors_on_images_leave_no_verdict() -> None:
    lines = [clean("a", 0, 0), clean("b", 0, 0), answer("a", 0, success=False)]
    lines.append(answer("b", None, success=False, distance=None, error="changed"))
    found = summary_of(lines, [phase()], fail_under=("10",))
    assert found["attacks"][0]["errors"] == 1
    assert found["attacks"][0]["robust"] == 1
    assert verdict(found) == ("inconclusive", 3)
    assert verdict(summary_of(lines, [phase()])) == ("inconclusive", 3)

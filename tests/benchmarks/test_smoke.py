"""The benchmark runs without any library installed, and its table holds together."""

from __future__ import annotations

import importlib
import shlex
from pathlib import Path

import pytest

from tests.benchmarks import clock, overhead, parity, steps
from tests.benchmarks.__main__ import PARTS
from tests.benchmarks.cases import find, open_case
from tests.benchmarks.pgd import compare
from tests.benchmarks.table import HEADER, Row, markdown


def test_the_benchmark_writes_a_whole_table():
    case = find("digits/cnn", eps=0.15)
    report = compare(case, count=16, repetitions=1, groups=("advcli", "plain loop"))
    assert [row.name for row in report.rows] == ["advcli"] * 3 + ["plain loop"] * 2
    for row in report.rows:
        assert len(row.seconds) == 1
        assert min(row.first, *row.seconds) > 0
        assert row.robust <= 4  # an undefended model at a large eps
        assert not row.breach
    assert report.rows[0].answer.gradients < 40 == report.rows[-1].answer.gradients
    report.rows.append(Row("Foolbox", "its step", "not installed"))
    text = markdown([report], {"seed": "0"})
    table = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(table) == 2 + len(report.rows)
    assert {line.count("|") for line in table} == {len(HEADER) + 1}
    assert "| Foolbox | its step | not installed |" in table[-1]
    assert table[2].rstrip("| ").split(" | ")[-2] == "1.00"  # advcli against itself


def test_a_rows_second_measurement_takes_the_place_of_the_first():
    def row(attack, verdict):
        return f"| `{attack}` | l2 | digits/cnn | – | Library 1.0 | 8 × 3 | 1 | 2 | 3 | {verdict} |"

    text = parity.merged("# Title\n\n", [row("fmn", "**no**"), row("ddn", "yes")])
    text = parity.merged(text + "\nAfterwards.\n", [row("fmn", "yes"), row("cw", "yes")])
    lines = text.splitlines()
    assert lines[0] == "# Title"
    assert [line for line in lines if line.startswith("| `")] == [
        row(attack, "yes") for attack in ("cw", "ddn", "fmn")
    ]
    assert lines[-1] == "Afterwards."
    assert text.count("As strong:") == 1


@pytest.fixture(scope="module")
def opened():
    return open_case(find("digits/cnn"), 16, seed=0)


def test_a_step_of_both_kinds_is_timed(opened):
    found = steps.compare(opened, "gradient", 16, repetitions=2, seconds=0.01)
    assert set(found) == {steps.OURS, steps.PLAIN}
    assert all(len(times.rounds) == 2 for times in found.values())
    assert found[steps.OURS].over(found[steps.OURS]) == 1.0


def test_overhead_divides_a_run_by_its_own_calls(opened):
    engine = opened.engine("uint8", 0)
    run = overhead.Run("PGD", ["pgd:steps=3,scouts=0"], opened.subjects(1e-4))
    assert run.perform(engine) > 0
    assert (run.fooled, run.gradients) == (0, 3 * len(opened.labels))
    bare = overhead.Bare(opened, engine, "bare", seconds=0.01)
    run.seconds, run.bare = [3.0, 1.0, 5.0], [2.0, 1.0, 4.0]
    assert 0 < bare.seconds_a_row() < 1
    assert overhead.row(run)[-1] == "1.250"


def test_turns_are_taken_and_ratios_are_those_of_a_round():
    calls = []

    def contender(name, *seconds):
        left = iter(seconds)

        def run():
            calls.append(name)
            return next(left)

        return run

    found = clock.in_turns({"a": contender("a", 9, 1, 4), "b": contender("b", 9, 2, 2)}, 2)
    assert calls == ["a", "b", "a", "b", "b", "a"]
    assert (found["a"].first, found["a"].rounds) == (9, [1, 4])
    assert found["a"].over(found["b"]) == 1.25  # the median of 1/2 and 4/2


def test_a_process_is_measured_as_a_whole():
    command = ["-c", "import sys; print(len(bytearray(50 << 20))); sys.exit(int(input()))"]
    found = clock.process([clock.sys.executable, *command], given="3")
    assert (found.code, found.output.split()[0]) == (3, str(50 << 20))
    assert found.peak > 50
    assert found.seconds > 0
    with pytest.raises(SystemExit, match="exit 3"):
        found.checked()


def test_cases_are_samples_or_files():
    case = find("net.h5,pictures,raw,2/255")
    assert (case.name, case.model, case.images) == ("net", Path("net.h5"), Path("pictures"))
    assert (case.preprocess, case.eps) == ("raw", 2 / 255)
    assert find("signs/cnn").preprocess == "raw"
    assert find("digits/robust", eps=0.2).eps == 0.2
    with pytest.raises(SystemExit, match="digits/robust"):
        find("digits/unknown")


@pytest.mark.parametrize("hurry", [False, True])
@pytest.mark.parametrize("name", PARTS)
def test_what_the_whole_run_types_is_understood(name, hurry):
    part = PARTS[name]
    typed = shlex.split(part.quick if hurry else part.full)
    for option in part.takes:
        typed += [f"--{option}", "there"]
    parser = importlib.import_module(f"tests.benchmarks.{part.module}").parser()
    options = vars(parser.parse_args(typed))
    assert {str(options[option.replace("-", "_")]) for option in part.takes} <= {"there"}

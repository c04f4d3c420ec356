"""The benchmark runs without any library installed, and its table holds together."""

from __future__ import annotations

from tests.benchmarks import parity
from tests.benchmarks.pgd import DIGITS, compare
from tests.benchmarks.table import HEADER, Row, markdown


def test_the_benchmark_writes_a_whole_table():
    report = compare(DIGITS / "cnn.h5", count=16, repetitions=1, groups=("advcli", "plain loop"))
    assert [row.name for row in report.rows] == ["advcli"] * 3 + ["plain loop"] * 2
    for row in report.rows:
        assert len(row.seconds) == 1
        assert row.first >= row.seconds[0] > 0
        assert row.robust <= 4  # an undefended model at a large eps
        assert not row.breach
    assert report.rows[0].answer.gradients < 40 == report.rows[-1].answer.gradients
    report.rows.append(Row("Foolbox", "its step", "not installed"))
    text = markdown([report], {"seed": "0"})
    table = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(table) == 1 + len(report.rows)
    assert {line.count("|") for line in table} == {len(HEADER) + 1}
    assert "| Foolbox | its step | not installed |" in table[-1]
    assert table[1].rstrip("| ").split(" | ")[-2] == "1.00"  # advcli against itself


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

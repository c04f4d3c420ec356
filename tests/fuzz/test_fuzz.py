"""A few cases of every part with each test run; `python -m tests.fuzz` runs many."""

import importlib

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from tests.fuzz import __main__ as long_run
from tests.fuzz import faulty
from tests.fuzz.parts import outcome

CASES = {
    "config_files": 60,
    "configs": 400,
    "files": 25,
    "folders": 80,
    "images": 300,
    "labels": 150,
    "loads": 8,
    "options": 60,
}


@pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisWarning")  # of a large case
@pytest.mark.parametrize("name", CASES)
def test_read_or_refused(name, tmp_path):
    part = importlib.import_module(f"tests.fuzz.{name}").PART
    if name == "loads":
        from advcli.models import runtime

        runtime.prepare("cpu")
    folders = (tmp_path / str(number) for number in range(10**6))

    @settings(
        max_examples=CASES[name],
        database=None,
        deadline=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(part.cases)
    def each(case):
        folder = next(folders)
        folder.mkdir()
        outcomes.add(outcome(part, case, folder))

    outcomes = set()
    each()
    assert outcomes >= ({"refused"} if name == "options" else {"read", "refused"})


def test_the_long_run_notices_every_fault(tmp_path):
    tally = long_run.run_part("faulty", 60, 0, tmp_path)
    assert tally.cases == 60
    kinds = " ".join(tally.findings)
    for kind in ("KeyError", "dies (-11)", "prints", "UserWarning", "Finding"):
        assert kind in kinds
    kept = {path.read_bytes().decode() for path in tmp_path.iterdir() if not path.suffix}
    assert kept == set(faulty.FAULTS)
    assert "dies (-11)" in tally.line()


def test_the_long_run_counts_what_is_fine(tmp_path):
    tally = long_run.run_part("labels", 30, 3, tmp_path)
    assert (tally.cases, tally.findings) == (30, {})
    assert 0 < tally.refused < 30
    assert tally.peak > 10**6

"""What a configuration file means to a run that goes on: what has changed in it is stated anew."""

from typing import Any

import pytest

from advcli.audit.plan import AuditConfig
from advcli.audit.resume import changed_options, merged_config


def file(path: str = "advcli.toml", *, gates: bool = True, **options: Any) -> dict[str, Any]:
    return {"path": path, "options": options, "gates": gates}


BEFORE = file(eps="8/255", limit=5, attacks=["pgd"])


@pytest.mark.parametrize(
    ("now", "before", "changed"),
    [
        (BEFORE, BEFORE, {"gates"}),
        (file(eps="4/255", limit=5), BEFORE, {"eps", "gates"}),
        (file(attacks=["pgd", "cw"]), BEFORE, {"attacks", "gates"}),
        (file(eps="8/255", seed=3), BEFORE, {"seed", "gates"}),
        (file(), BEFORE, {"gates"}),  # what is no longer said is the run's own
        (BEFORE, None, {"eps", "limit", "attacks", "gates"}),  # the run began without a file
        (file(gates=False), BEFORE, {"gates"}),  # the same file: it has none any more
        (file("other.toml", gates=False, limit=5), BEFORE, set()),  # another one never had any
        (file("other.toml", seed=3), BEFORE, {"seed", "gates"}),
        (None, BEFORE, set()),
        (None, None, set()),
    ],
)
def test_what_counts_as_stated(now: Any, before: Any, changed: set[str]) -> None:
    assert changed_options(now, {"config_file": before}) == changed
    if before is None:
        assert changed_options(now, {}) == changed  # a run of before there were files


def test_gates_are_the_present_file_s_or_without_one_the_run_s() -> None:
    base = {"command": "evaluate", "model": "m", "images": "i"}
    stored = base | {"gates": [{"gate": "40", "accept": None}], "seed": 3}
    earlier = {"config": stored, "config_file": BEFORE}
    now = AuditConfig.model_validate(base)
    kept = merged_config(now, earlier, changed_options(None, earlier))
    assert [gate.gate for gate in kept.gates] == ["40"]
    assert kept.seed == 3
    dropped = merged_config(now, earlier, changed_options(BEFORE, earlier))
    assert dropped.gates == ()
    assert dropped.seed == 3
    elsewhere = changed_options(file("other.toml", gates=False), earlier)
    assert [gate.gate for gate in merged_config(now, earlier, elsewhere).gates] == ["40"]

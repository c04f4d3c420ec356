import json

import pytest

from advcli.attacks.registry import FITTED, NAMES, attack_class, parse_spec
from advcli.reports.catalogue import describe, describe_all, table_of, text_of
from advcli.threats.space import Space


def test_every_attack_is_listed_in_80_columns() -> None:
    text = table_of(describe_all(), width=80, color=False)
    assert max(map(len, text.splitlines())) <= 80
    for name in (*NAMES, *FITTED):
        assert f"\n{name} " in text
    assert text.startswith("attack ")
    json.dumps(describe_all())


@pytest.mark.parametrize("name", NAMES)
def test_measured_costs_are_whole_and_within_what_is_declared(name: str) -> None:
    """`python -m tests.benchmarks.costs NAME` measures them."""
    attack = describe(name)
    cls, measured = attack_class(name), attack["measured"]
    assert set(measured["norms"]) == set(cls.norms)
    text = text_of(attack, width=None, color=False)
    for norm, entry in measured["norms"].items():
        forwards, gradients = cls().cost(Space(norm, (28, 28, 1)))
        for label in ("plain", "robust"):
            assert 1 <= entry[label]["forwards"] <= forwards + 20  # confirmations are forwards
            assert entry[label]["gradients"] <= gradients + 1
            assert f"{label} {entry[label]['forwards']:,g} / {entry[label]['gradients']:,g}" in text


@pytest.mark.parametrize("name", [*NAMES, *FITTED])
def test_what_one_attack_says(name: str) -> None:
    attack = describe(name)
    text = text_of(attack, width=None, color=False)
    for option in attack["options"]:
        assert option["description"]
        assert option["name"] in text
        if option["default"] is not None:  # what is printed can be pasted
            value = str(option["default"]).lower()
            assert parse_spec(f"{name}:{option['name']}={value}").attack.spec == name
    assert attack["description"].splitlines()[0] in text
    assert attack["reference"] in text
    assert attack["cost"]["forwards"] > 0
    example = next(line for line in text.splitlines() if line.startswith("example: "))
    parse_spec(example.rsplit(" ", 1)[1])

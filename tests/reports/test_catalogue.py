import json

import pytest

from advcli.attacks.registry import FITTED, NAMES, parse_spec
from advcli.reports.catalogue import describe, describe_all, table_of, text_of


def test_every_attack_is_listed_in_80_columns() -> None:
    text = table_of(describe_all(), width=80, color=False)
    assert max(map(len, text.splitlines())) <= 80
    for name in (*NAMES, *FITTED):
        assert name in text
    json.dumps(describe_all())


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

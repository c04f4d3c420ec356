"""Budgets as a command line states them."""

from __future__ import annotations

import pytest

from advcli.errors import UsageError
from advcli.threats.budget import parse_eps_list


@pytest.mark.parametrize("text", ["", " ", ",", " , ,"])
def test_a_list_without_a_budget_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="names no budget"):
        parse_eps_list(text)


def test_a_budget_written_in_two_ways_is_one() -> None:
    assert parse_eps_list("8/255,0.0313725490,4/255") == (4 / 255, 8 / 255)
    assert len(parse_eps_list("1,2,2,3")) == 3

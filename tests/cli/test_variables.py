"""Variables: those that nothing reads are named, those that an option has are not."""

from __future__ import annotations

from typing import Any

import pytest

from advcli.cli.app import cli


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("ADVCLI_FAILUNDER", "; did you mean ADVCLI_FAIL_UNDER?"),
        ("ADVCLI_MODEL", ""),  # an argument
        ("ADVCLI_eps", ""),
        ("ADVCLI_\x1b[2J", ""),
    ],
)
def test_what_nothing_reads_is_named(
    name: str, near: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setenv(name, "40")
    cli.main(["attacks", "noise"], standalone_mode=False)
    shown = name.replace("\x1b", "\\x1b")
    said = f"note: variable {shown} is not read: no option has it{near}\n"
    assert capsys.readouterr().err == said


@pytest.mark.parametrize(
    "name",
    ["EPS", "FAIL_UNDER", "REPORT", "ATTACK", "FORMAT", "CONFIG", "COMMAND", "REPLAY", "VERSION"],
)
def test_what_an_option_of_any_command_reads_is_not(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setenv(f"ADVCLI_{name}", "json")
    cli.main(["attacks", "noise"], standalone_mode=False)
    assert capsys.readouterr().err == ""

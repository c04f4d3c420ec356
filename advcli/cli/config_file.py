"""The configuration file: found, read, checked, and what it says to one command.

`advcli.toml`, or else `[tool.advcli]` in `pyproject.toml`, in the working directory alone: a file
further up would change figures without being seen.
"""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import click

from advcli.cli.config_schema import CONFIGURED, check, file_schema, fits, keys_of, schema_of
from advcli.errors import UsageError
from advcli.images.text import printable

__all__ = ["ConfigFile", "Stated", "find", "read"]

_NAMES = ("advcli.toml", "pyproject.toml")
_MOST_BYTES = 2**20
_MOST_DOTS = 200  # in a line: tomllib takes memory with the square of a key's length
# Of two that exclude each other, the one that is stated closer to the command counts.
EXCLUSIVE = (("attack", "preset"),)


class Stated(NamedTuple):
    """A key's value: as the file has it, as the command line would, and where it stands."""

    raw: Any
    value: Any
    where: str


@dataclass(frozen=True)
class ConfigFile:
    """A file that was read and checked. `named`: by the user, not merely found."""

    path: Path
    table: dict[str, Any]
    named: bool

    def stated(self, command: str) -> dict[str, Stated]:
        """What the file says to a command, by key; the command's own table overrides.

        A value that only other commands take (a format, say) is for them.
        """
        found: dict[str, Stated] = {}
        for prefix, table in self._levels(command):
            closer = set(found)
            for key, param in keys_of(command).items():
                if key not in table or not fits(table[key], schema_of(param)) or key in found:
                    continue
                if any(key in pair and closer & set(pair) for pair in EXCLUSIVE):
                    continue
                value = _for_click(table[key], param, self.path.parent)
                found[key] = Stated(table[key], value, f"{self}: {prefix}{key}")
        return found

    def gates(self, command: str) -> list[dict[str, Any]]:
        """The `[[gates]]` of a command, as AuditConfig takes them."""
        for prefix, table in self._levels(command):
            if "gates" in table:
                stated = enumerate(table["gates"], start=1)
                return [self._gate(gate, f"{prefix}gates[{number}]") for number, gate in stated]
        return []

    def _levels(self, command: str) -> list[tuple[str, dict[str, Any]]]:
        """The tables that speak to a command, the closest first, each with its prefix."""
        own = self.table.get(command)
        return [*([(f"{command}.", own)] if isinstance(own, dict) else []), ("", self.table)]

    def _gate(self, gate: dict[str, Any], where: str) -> dict[str, Any]:
        from advcli.audit.gates import parse_gate

        percent = _text(gate["fail-under"])
        text = f"{gate['scope']}={percent}" if "scope" in gate else percent
        try:
            parse_gate(text)
        except UsageError as error:
            raise UsageError(f"{self}: {where}: {error.message}", error.hint) from error
        return {"gate": text, "accept": gate.get("accept"), "where": f"{self}: {where}"}

    def __str__(self) -> str:
        return printable(str(self.path), 60)


def find() -> ConfigFile | None:
    """The working directory's file; None where there is none."""
    for name in _NAMES:
        if os.path.lexists(name) and (name == _NAMES[0] or _concerns_us(Path(name))):
            found = read(Path(name), named=False)
            if found is not None:
                return found
    return None


def _concerns_us(path: Path) -> bool:
    """Whether a pyproject.toml mentions this tool at all: another's mistakes stop no run."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return b"advcli" in file.read(_MOST_BYTES)
    except OSError:
        return False


def read(path: Path, *, named: bool = True) -> ConfigFile | None:
    """A file; None for a pyproject.toml without `[tool.advcli]` that was not named.

    Raises UsageError with the file, the key and what is expected there.
    """
    table: Any = _parsed(path, named=named)
    if path.name == _NAMES[1]:
        tool = table.get("tool")
        table = tool.get("advcli") if isinstance(tool, dict) else None
        if table is None and not named:
            return None
        if not isinstance(table, dict):
            raise UsageError(
                f"{printable(str(path), 60)}: there is no table [tool.advcli]",
                "add one, or name another file",
            )
    config = ConfigFile(path, table, named)
    try:
        check(table, file_schema(), "")
    except UsageError as error:
        raise UsageError(f"{config}: {error.message}", error.hint) from None
    for command in CONFIGURED:
        config.gates(command)
    return config


def _parsed(path: Path, *, named: bool) -> dict[str, Any]:
    shown = printable(str(path), 60)
    try:
        if not named and not path.is_file():
            raise UsageError(f"{shown}: is no regular file", "remove it, or name a --config FILE")
        with path.open("rb") as file:
            raw = file.read(_MOST_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        reason = error.strerror if isinstance(error, OSError) else None
        raise UsageError(
            f"{shown}: cannot be read: {reason or error}", "check the path of --config"
        ) from error
    if len(raw) > _MOST_BYTES or any(line.count(b".") > _MOST_DOTS for line in raw.splitlines()):
        raise UsageError(
            f"{shown}: is too large, or has a line with over {_MOST_DOTS} dots",
            "name another file by --config",
        )
    try:
        return tomllib.loads(raw.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise UsageError(
            f"{shown}: is no TOML: {printable(reason, 200)}", "mend it, or name another --config"
        ) from None


def _for_click(value: Any, param: click.Parameter, folder: Path) -> Any:
    """A value as the command line would have given it; relative paths are the folder's."""
    if isinstance(value, bool):
        return value
    many = isinstance(param, click.Option) and param.multiple
    texts = [_text(one) for one in (value if isinstance(value, list) else [value])]
    if isinstance(param.type, click.Path) or getattr(param.type, "is_path", False):
        texts = [str(folder / text) for text in texts]
    return texts if many else ",".join(texts)


def _text(value: Any) -> str:
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    return str(value)

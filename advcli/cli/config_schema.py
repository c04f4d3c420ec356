"""What a configuration file may say, as a JSON Schema that is read off the commands' own options.

The same schema is printed by `advcli config schema` and checked by the reader, so that neither can
say what the other does not. Of JSON Schema (draft 2020-12) it uses what `check` knows.
"""

from __future__ import annotations

import datetime
import difflib
import importlib
import math
import re
from typing import Any, NoReturn

import click
from click.types import FloatParamType, IntParamType

from advcli.cli.options import TEXT
from advcli.errors import UsageError
from advcli.images.text import printable

__all__ = [
    "CONFIGURED",
    "check",
    "command_named",
    "file_schema",
    "fits",
    "key_of",
    "keys_of",
    "shown_default",
]

# Commands that read a configuration file: those that open a model
CONFIGURED = ("attack", "evaluate", "inspect", "verify")

_LARGEST = 2**63 - 1  # of TOML's integers
_ARGUMENTS = ("model", "images")
_NO_KEYS = ("config", "verbose")  # read before a file is, and about this one call
_KINDS = {
    "boolean": "true or false",
    "string": "a text",
    "number": "a number",
    "array": "a list of such",
    "object": "a table",
}
_PERCENT: dict[str, Any] = {
    "title": 'a percentage: 0, or 1 to 100; text such as "0.5%" for less than one',
    "anyOf": [
        {"type": "number", "minimum": 0, "maximum": 0},
        {"type": "number", "minimum": 1, "maximum": 100},
        {"type": "string", "pattern": "^[^=\\u0000]+$"},
    ],
}
_GATES: dict[str, Any] = {
    "title": "tables [[gates]]",
    "description": "Gates in addition to fail-under, each with a scope (absent: every worst case) "
    "and a percentage. `accept` waives a failure until a date, that day (UTC) included.",
    "type": "array",
    "items": {
        "type": "object",
        "properties": {
            "scope": {
                **TEXT,
                "description": "clean, pgd, pgd@8/255, linf@8/255, class:NAME, …, as --fail-under",
            },
            "fail-under": _PERCENT,
            "accept": {
                "title": "a table of until and reason",
                "type": "object",
                "properties": {
                    "until": {
                        "title": "a date such as 2027-03-31",
                        "type": "string",
                        "format": "date",
                        "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$",
                    },
                    "reason": {"title": "a text", "type": "string", "pattern": "\\S"},
                },
                "required": ["until", "reason"],
                "additionalProperties": False,
            },
        },
        "required": ["fail-under"],
        "additionalProperties": False,
    },
}


def command_named(name: str) -> click.Command:
    command: click.Command = importlib.import_module(f"advcli.cli.{name}").command
    return command


def key_of(param: click.Parameter) -> str | None:
    """A parameter's key: an option's long name, or the argument's; None if it has none."""
    if isinstance(param, click.Argument):
        return param.name if param.name in _ARGUMENTS else None
    name = next(opt[2:] for opt in param.opts if opt.startswith("--"))
    # verify's --model and --images: where a run's files are now, no file knows
    return None if name in _NO_KEYS or name in _ARGUMENTS else name


def keys_of(name: str) -> dict[str, click.Parameter]:
    """The parameters of a command that a file can set."""
    found = {key_of(param): param for param in command_named(name).params}
    return {key: param for key, param in found.items() if key is not None}


def file_schema() -> dict[str, Any]:
    """The schema of `advcli.toml`, and of `[tool.advcli]` in pyproject.toml."""
    tables = {name: _table_schema(name) for name in CONFIGURED}
    properties: dict[str, Any] = {}
    for table in tables.values():
        for key, schema in table["properties"].items():
            properties[key] = _either(properties[key], schema) if key in properties else schema
    for name, table in tables.items():
        properties[name] = _either(properties[name], table) if name in properties else table
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "advcli.toml",
        "description": "Options of advcli, for every command that has them; a table named after a "
        "command overrides them there. Texts with a grammar of their own (eps, attack, "
        "preprocess, …) are checked by advcli itself.",
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
    }


def _table_schema(name: str) -> dict[str, Any]:
    properties = {key: schema_of(param) for key, param in keys_of(name).items()}
    if "fail-under" in properties:
        properties["gates"] = _GATES
    return {
        "title": f"a table [{name}]",
        "description": f"Options for `advcli {name}` alone; they override those above.",
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
    }


def schema_of(param: click.Parameter) -> dict[str, Any]:
    """The schema of one option's key."""
    schema = _value_schema(param)
    if isinstance(param, click.Option):
        if param.multiple:
            schema = {"anyOf": [schema, {"type": "array", "items": schema}]}
        default = shown_default(param)
        schema = {
            "description": param.help or "",
            **schema,
            **({} if default is None else {"default": default}),
        }
    return schema


def _value_schema(param: click.Parameter) -> dict[str, Any]:
    kind = param.type
    if isinstance(param, click.Option) and param.is_flag:
        return {"type": "boolean"}
    own: dict[str, Any] | None = getattr(kind, "schema", None)
    if own is not None:
        return own
    if isinstance(kind, click.Choice):
        return {"enum": list(kind.choices)}
    low, high = getattr(kind, "min", None), getattr(kind, "max", None)
    limits = {"maximum": _LARGEST if high is None else high}
    if isinstance(kind, IntParamType):
        return {"type": "integer", "minimum": -_LARGEST if low is None else low, **limits}
    if isinstance(kind, FloatParamType):
        return {"type": "number", "minimum": -_LARGEST if low is None else low, **limits}
    return TEXT


def shown_default(param: click.Parameter) -> str | float | bool | None:
    """An option's default as a file would state it; None where there is none."""
    if isinstance(param, click.Option) and param.is_flag:
        return bool(param.default is True)
    default = param.default
    return default if isinstance(default, str | int | float) else None


def _either(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Both, where a key means different things to different commands; the first's description."""
    bare = [
        {k: v for k, v in s.items() if k not in ("description", "default")} for s in (one, other)
    ]
    if bare[0] == bare[1]:
        return one
    kept = {k: v for k, v in one.items() if k in ("description", "default")}
    alternatives = one["anyOf"] if "title" not in one and "anyOf" in one else [bare[0]]
    return {**kept, "anyOf": [*alternatives, other if "title" in other else bare[1]]}


def fits(value: Any, schema: dict[str, Any]) -> bool:
    """Whether a TOML value is what the schema describes."""
    try:
        check(value, schema, "")
    except UsageError:
        return False
    return True


def check(value: Any, schema: dict[str, Any], where: str) -> None:
    """Raises UsageError for the first thing in `value`, found at the key `where`, that is not as
    `schema` has it."""
    if "anyOf" in schema:
        chosen = [one for one in schema["anyOf"] if _is(value, one.get("type", ""))]
        if isinstance(value, dict) and len(chosen) == 1:
            check(value, chosen[0], where)
        elif not any(fits(value, one) for one in schema["anyOf"]):
            _refuse(value, schema, where)
    elif "enum" in schema:
        if not isinstance(value, str) or value not in schema["enum"]:
            _refuse(value, schema, where)
    elif not _is(_as_text(value, schema), schema["type"]):
        _refuse(value, schema, where)
    elif schema["type"] == "object":
        _check_table(value, schema, where)
    elif schema["type"] == "array":
        if len(value) < schema.get("minItems", 0):
            _refuse(value, schema, where)
        for number, item in enumerate(value, start=1):
            check(item, schema["items"], f"{where}[{number}]")
    elif not _within(_as_text(value, schema), schema):
        _refuse(value, schema, where)


def _check_table(table: dict[str, Any], schema: dict[str, Any], where: str) -> None:
    properties = schema["properties"]
    for key, value in table.items():
        path = f"{where}.{key}" if where else key
        if key not in properties:
            near = difflib.get_close_matches(key, properties, n=1, cutoff=0.5)
            hint = f"did you mean '{near[0]}'? " if near else ""
            raise UsageError(
                f"unknown key '{printable(path, 60)}'",
                f"{hint}`advcli config schema` lists the keys",
            )
        check(value, properties[key], path)
    for key in schema.get("required", ()):
        if key not in table:
            raise UsageError(
                f"{printable(where, 60)}: '{key}' is missing",
                f"expected: {_expected(properties[key])}",
            )


def _is(value: Any, kind: str) -> bool:
    """JSON Schema's types of what TOML reads: true is no number, 3.0 an integer."""
    if isinstance(value, bool):
        return kind == "boolean"
    if isinstance(value, float):
        whole = value.is_integer()
        return math.isfinite(value) and (kind == "number" or (kind == "integer" and whole))
    if isinstance(value, int):
        return kind in ("integer", "number")
    types = {"string": str, "array": list, "object": dict}
    return kind in types and isinstance(value, types[kind])


def _as_text(value: Any, schema: dict[str, Any]) -> Any:
    """A TOML date as JSON has it, where a date is wanted."""
    wanted = schema.get("format") == "date" and type(value) is datetime.date
    return value.isoformat() if wanted else value


def _within(value: Any, schema: dict[str, Any]) -> bool:
    if isinstance(value, str):
        if not re.search(schema.get("pattern", ""), value):
            return False
        if schema.get("format") == "date":
            try:
                datetime.date.fromisoformat(value)
            except ValueError:
                return False
        return True
    if isinstance(value, bool):
        return True
    if "exclusiveMinimum" in schema and value <= schema["exclusiveMinimum"]:
        return False
    return bool(schema.get("minimum", value) <= value <= schema.get("maximum", value))


def _refuse(value: Any, schema: dict[str, Any], where: str) -> NoReturn:
    expected = _expected(schema)
    if isinstance(value, str) and "enum" in schema:
        near = difflib.get_close_matches(value, schema["enum"], n=1, cutoff=0.5)
        expected += f"; did you mean '{near[0]}'?" if near else ""
    raise UsageError(
        f"{printable(where, 60)}: {_shown(value)} is no value for it", f"expected: {expected}"
    )


def _expected(schema: dict[str, Any]) -> str:
    """A schema in words."""
    if "title" in schema:
        return str(schema["title"])
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(map(_expected, schema["anyOf"])))
    if "enum" in schema:
        return ", ".join(schema["enum"])
    if schema["type"] in ("integer", "number") and "minimum" in schema:
        low, high = schema["minimum"], schema["maximum"]
        kind = "a whole number" if schema["type"] == "integer" else "a number"
        return f"{kind} from {low} {'on' if high == _LARGEST else f'to {high}'}"
    return _KINDS[schema["type"]]


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f"'{printable(value, 40)}'"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, int):
        return str(value) if abs(value) <= _LARGEST else "so large a number"
    if isinstance(value, list):
        return "a list"
    return "a table" if isinstance(value, dict) else "a date or time"

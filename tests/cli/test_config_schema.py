"""The printed schema and the reader say the same of every file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import jsonschema
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from advcli.cli import exits
from advcli.cli.config_file import read
from advcli.cli.config_schema import CONFIGURED, file_schema, fits, keys_of, schema_of
from advcli.errors import UsageError

SCHEMA = file_schema()
VALIDATOR = jsonschema.Draft202012Validator(
    SCHEMA, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
)

_texts = st.one_of(
    st.sampled_from(
        ("", "auto", "linf", "crop", "8/255", "40", "\0", "a\n", "2027-03-31", "=", " ")
    ),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x7f"), max_size=5),
)
_numbers = st.one_of(
    st.sampled_from((0, 1, 1.0, 0.5, -1, 65536, 65537, 100, 100.5, 2**31, 2**63, 2.0**63, -0.0)),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
)
_scalars = st.one_of(_texts, _numbers, st.booleans())
_anything = st.one_of(
    _scalars,
    st.lists(_scalars, max_size=3),
    st.dictionaries(st.sampled_from(("limit", "scope", "x")), _scalars, max_size=2),
)


def _of(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values that come near to a schema: what it accepts, more or less, or anything."""
    if "anyOf" in schema:
        near = st.one_of(*map(_of, schema["anyOf"]))
    elif "enum" in schema:
        near = st.sampled_from(schema["enum"])
    elif schema["type"] == "object":
        near = _table(schema)
    elif schema["type"] == "array":
        near = st.lists(_of(schema["items"]), max_size=2)
    elif schema["type"] == "string":
        # what has a grammar of its own stays within it; that is not the schema's to say
        dates = ("2027-03-31", "2027-02-30", "20270331", "x", "")
        near = st.sampled_from(dates if "format" in schema else ("40", "5%", ""))
    else:
        near = _numbers if schema["type"] != "boolean" else st.booleans()
    return st.one_of(near, near, near, _anything)


@st.composite
def _table(draw: st.DrawFn, schema: dict[str, Any]) -> dict[str, Any]:
    keys = (*schema["properties"], "epz", "fail_under")
    table = {}
    for key in draw(st.lists(st.sampled_from(keys), max_size=3, unique=True)):
        table[key] = draw(_of(schema["properties"].get(key, {"type": "boolean"})))
    for key in schema.get("required", ()):
        if draw(st.integers(0, 9)):
            table.setdefault(key, draw(_of(schema["properties"][key])))
    return table


def toml(value: Any) -> str:
    """A value as TOML, inline."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k)} = {toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    return str(value).lower() if isinstance(value, bool) else repr(value)


def accepted(table: dict[str, Any], path: Path) -> bool:
    text = "\n".join(f"{json.dumps(key)} = {toml(value)}" for key, value in table.items())
    path.write_text(text, encoding="utf-8")
    try:
        read(path)
    except UsageError as error:
        # the grammar of a gate, which no schema can say
        return "--fail-under" in error.message or "no perturbation budget" in error.message
    return True


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(table=_table(SCHEMA))
@example(table={"limit": 3.0, "batch-size": "auto", "eps": [0.25, "1/8"]})
@example(table={"gates": [{}]})
@example(table={"attack": {"attack": ["pgd"]}, "gates": []})
@example(table={"gates": [{"fail-under": 4, "accept": {"until": "2027-03-31", "reason": "x"}}]})
def test_the_reader_accepts_what_the_schema_does(
    table: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "generated.toml"
    assert accepted(table, path) == VALIDATOR.is_valid(table)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_each_key_alone(data: st.DataObject) -> None:
    """Closer to the edges than whole files come."""
    key = data.draw(st.sampled_from(sorted(SCHEMA["properties"])))
    value = data.draw(_of(SCHEMA["properties"][key]))
    assert fits({key: value}, SCHEMA) == VALIDATOR.is_valid({key: value})


def _bounds(schema: Any) -> Iterator[float]:
    if isinstance(schema, dict):
        yield from (schema[k] for k in ("minimum", "maximum", "exclusiveMinimum") if k in schema)
        for part in schema.values():
            yield from _bounds(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from _bounds(part)


def test_at_the_bounds_of_every_number() -> None:
    met = 0
    for key, schema in SCHEMA["properties"].items():
        for bound in set() if key in (*CONFIGURED, "gates") else set(_bounds(schema)):
            for value in (bound - 1, bound, bound + 1, bound + 0.5, float(bound)):
                assert fits({key: value}, SCHEMA) == VALIDATOR.is_valid({key: value}), (key, value)
                met += 1
    assert met > 50


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (click.FloatRange(0, 100), (0, 2, 99.5, 100.0), (-0.1, 101, "2", True)),
        (float, (-1.5, 0), ("2", [1.0])),
        (int, (-3, 4.0), (0.5, "4", None)),
        (click.IntRange(1), (1, 10**6), (0, 1.5)),
        (click.Path(), ("a",), (1, "")),
    ],
)
def test_every_type_of_option(kind: Any, good: tuple[Any, ...], bad: tuple[Any, ...]) -> None:
    schema = schema_of(click.Option(["--x"], type=kind))
    validator = jsonschema.Draft202012Validator(schema)
    for values, expected in ((good, True), (bad, False)):
        for value in values:
            assert fits(value, schema) == validator.is_valid(value) == expected, value


def test_both_verdicts_are_met() -> None:
    """So that what is proven above is not proven of nothing."""
    verdicts = []

    @settings(max_examples=200, database=None, derandomize=True, deadline=None)
    @given(_table(SCHEMA))
    def count(table: dict[str, Any]) -> None:
        verdicts.append((bool(table), VALIDATOR.is_valid(table)))

    count()
    assert verdicts.count((True, True)) > 20
    assert verdicts.count((True, False)) > 20


def test_it_is_a_schema_and_has_every_key(capsys: pytest.CaptureFixture[str]) -> None:
    assert exits.run(["config", "schema"]) == 0
    assert json.loads(capsys.readouterr().out) == SCHEMA
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    every = {key for command in CONFIGURED for key in keys_of(command)}
    assert set(SCHEMA["properties"]) == every | set(CONFIGURED) | {"gates"}
    for command in CONFIGURED:
        tables = [SCHEMA["properties"][command], *SCHEMA["properties"][command].get("anyOf", ())]
        (own,) = (table for table in tables if table.get("type") == "object")
        assert set(own["properties"]) - {"gates"} == set(keys_of(command))
        assert own["additionalProperties"] is False


def test_the_readme_s_example_is_read(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    blocks = [part.partition("```")[0] for part in text.split("```toml\n")[1:]]
    assert blocks
    for block in (block for block in blocks if "[[gates]]" in block):
        path = tmp_path / "advcli.toml"
        path.write_text(block, encoding="utf-8")
        found = read(path)
        assert found is not None
        assert found.stated("evaluate")["report"].where.endswith("evaluate.report")
        assert [gate["gate"] for gate in found.gates("evaluate")] == ["class:stop=60"]
        assert exits.run(["config", "show", "--config", str(path)]) == 0


def test_the_schema_accepts_what_init_writes(tmp_path: Path) -> None:
    import tomllib

    path = tmp_path / "advcli.toml"
    assert exits.run(["config", "init", str(path)]) == 0
    VALIDATOR.validate(tomllib.loads(path.read_text()))
    stated = [x[1:] if x[:1] == "#" and x[1:2] != " " else x for x in path.read_text().split("\n")]
    table = tomllib.loads("\n".join(stated))
    assert len(table) > 20
    VALIDATOR.validate(table)

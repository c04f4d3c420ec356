"""`advcli config`: what is in effect and why, the schema of the file, and one to start from."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from click.core import iter_params_for_processing

from advcli.cli.config_schema import CONFIGURED, command_named, file_schema, key_of, shown_default
from advcli.cli.configured import file_of, settle
from advcli.cli.exits import emit
from advcli.cli.options import EXAMPLES_SETTINGS, origin_of, printing_options, use_color
from advcli.errors import UsageError
from advcli.images.text import printable

__all__ = ["command"]

_COMMENT_WIDTH = 96
_HEAD = """\
# Options of advcli, for every command that has them. A flag wins over a variable (ADVCLI_EPS), a
# variable over this file. Relative paths are relative to this file's folder. Below stand the
# defaults: take a '#' away to state one. Tables [evaluate], [attack], [inspect] and [verify] at the
# end of the file override the options above them for one command.
#
# model = "model.h5"
# images = "test-images"
"""
_GATES = """
# Gates in addition to fail-under. `accept` waives a failure until a date, that day included.
#
# [[gates]]
# scope = "linf@8/255"
# fail-under = 40
#
# [[gates]]
# scope = "class:stop"
# fail-under = 60
# accept = { until = 2027-03-31, reason = "retraining planned" }
"""


@click.group(
    "config",
    context_settings=EXAMPLES_SETTINGS,
    invoke_without_command=True,
    short_help="Show what is in effect and why; start a configuration file.",
)
@click.pass_context
def command(ctx: click.Context) -> int:
    """The configuration file: advcli.toml, else [tool.advcli] in pyproject.toml."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help(), err=True)
        return 2
    return 0


@command.command("show", context_settings=EXAMPLES_SETTINGS)
@click.option(
    "--config",
    "file",
    envvar="ADVCLI_CONFIG",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The file (default: the working directory's, as for other commands).",
)
@click.option(
    "--command",
    "name",
    envvar="ADVCLI_COMMAND",
    type=click.Choice(CONFIGURED),
    default="evaluate",
    show_default=True,
    help="The command whose options are shown.",
)
@printing_options("table", "json")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def show(
    file: Path | None,
    name: str,
    arguments: tuple[str, ...],
    output_format: str,
    color: str,
    verbose: bool,
) -> int:
    """Every option of a command: its value, and what set it.

    ARGUMENTS, after --, are read as the command's own:

    \b
    advcli config show
    advcli config show --command attack -- model.h5 images/ --eps 4/255
    """
    given = [] if file is None else ["--config", str(file)]
    found = _in_effect(name, [*given, *arguments])
    if output_format == "json":
        emit(json.dumps(found, indent=2) + "\n")
        return 0
    from rich.table import Table
    from rich.text import Text

    from advcli.cli.running import screen_width
    from advcli.reports.terminal import console_text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("option", "value", "origin"):
        table.add_column(heading, overflow="fold")
    for row in found["options"]:
        value = printable(_in_words(row["value"]))
        table.add_row(row["option"], Text(value), Text(printable(row["origin"])))
    for row in found["gates"]:
        waiver = row["accept"]
        text = row["gate"]
        if waiver:
            text += f" (failure waived until {waiver['until']}: {waiver['reason']})"
        table.add_row("gates", Text(printable(text)), Text(printable(row["origin"])))
    emit(console_text(table, width=screen_width(), color=use_color(color)))
    return 0


def _in_effect(name: str, arguments: list[str]) -> dict[str, Any]:
    """`{command, file, options [{option, value, origin}], gates}`; a missing MODEL is no error."""
    target = command_named(name)
    ctx = click.Context(target, info_name=name, **target.context_settings)
    with ctx:
        opts, rest, order = target.make_parser(ctx).parse_args(args=arguments)
        if rest:
            ctx.fail(f"Got unexpected extra arguments ({' '.join(rest)})")
        raw = {}
        for param in iter_params_for_processing(order, target.get_params(ctx)):
            try:
                param.handle_parse_result(ctx, opts, [])
            except click.MissingParameter:
                ctx.params[str(param.name)] = None
            raw[param.name], _ = param.consume_value(ctx, opts)
        settle(ctx)
        rows = []
        for param in target.params:
            key = key_of(param)
            if key is not None:
                origin = _origin(param, ctx)
                if origin == "default":
                    value: Any = shown_default(param)
                elif isinstance(param, click.Option) and param.is_flag:
                    value = ctx.params[str(param.name)]
                else:
                    value = _plain(raw[param.name])
                rows.append({"option": key, "value": value, "origin": origin})
        file = file_of(ctx)
        gates = [] if file is None or "fail_under" not in ctx.params else file.gates(name)
        return {
            "command": name,
            "file": None if file is None else str(file.path),
            "options": rows,
            "gates": [_gate(gate) for gate in gates],
        }


def _gate(stated: dict[str, Any]) -> dict[str, Any]:
    waiver = stated["accept"] and stated["accept"] | {"until": str(stated["accept"]["until"])}
    return {"gate": stated["gate"], "accept": waiver, "origin": stated["where"]}


def _origin(param: click.Parameter, ctx: click.Context) -> str:
    from click.core import ParameterSource

    if ctx.get_parameter_source(str(param.name)) is ParameterSource.COMMANDLINE:
        return "argument" if isinstance(param, click.Argument) else "flag"
    return origin_of(param, ctx) or "default"


def _plain(value: Any) -> Any:
    """A value that was stated, as JSON has it."""
    return [str(one) for one in value] if isinstance(value, list | tuple) else str(value)


def _in_words(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return str(value).lower()
    return ", ".join(value) or "none" if isinstance(value, list) else str(value)


@command.command("schema", context_settings=EXAMPLES_SETTINGS)
def schema() -> int:
    """Print the JSON Schema of the file, for editors and checks."""
    emit(json.dumps(file_schema(), indent=2, ensure_ascii=False) + "\n")
    return 0


@command.command("init", context_settings=EXAMPLES_SETTINGS)
@click.argument("file", type=click.Path(path_type=Path), default=Path("advcli.toml"))
def init(file: Path) -> int:
    """Write a commented FILE (default: advcli.toml) with every option and its default.

    Nothing is overwritten.
    """
    shown = printable(str(file))
    if file.name == "pyproject.toml":
        raise UsageError(
            f"{shown}: belongs to the project", "write advcli.toml, or [tool.advcli] there by hand"
        )
    try:
        with file.open("x", encoding="utf-8") as target:
            target.write("\n".join(_commented()))
    except FileExistsError:
        raise UsageError(f"{shown}: is there already", "name another file") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else None
        raise UsageError(
            f"{shown}: cannot be written: {reason or error}", "name another file"
        ) from None
    emit(f"{shown}\n")
    return 0


def _commented() -> Iterator[str]:
    yield _HEAD
    seen = {"model", "images"}
    for name in ("evaluate", "attack", "inspect", "verify"):
        for param in command_named(name).params:
            key = key_of(param)
            if key is None or key in seen or not isinstance(param, click.Option):
                continue
            seen.add(key)
            only = "" if name == "evaluate" else f"({name}) "
            help_text = only + " ".join((param.help or "").split())
            yield from (f"# {line}" for line in textwrap.wrap(help_text, _COMMENT_WIDTH))
            default = shown_default(param)
            yield f"# {key}: no default" if default is None else f"#{key} = {json.dumps(default)}"
            yield ""
    yield _GATES.strip() + "\n"

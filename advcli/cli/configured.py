"""A command that reads the configuration file: flag, then variable, then file, then default."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from advcli.cli.config_file import EXCLUSIVE, ConfigFile, Stated, find, read
from advcli.cli.config_schema import key_of
from advcli.cli.options import given_options
from advcli.errors import AdvcliError, UsageError

__all__ = ["Configured", "file_of", "settle", "stated_of"]

_FILE = "advcli.config_file"
_PATHS = ("model", "images", "classes", "labels", "surrogate", "out")
_RUNS_CODE = ("allow-unsafe-model", "custom-objects")


class Configured(click.Command):
    """A command with `--config`, whose options a file can set."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.append(
            click.Option(
                ["--config"],
                type=click.Path(path_type=Path),
                metavar="FILE",
                is_eager=True,
                expose_value=False,
                callback=_read,
                help="Options from this file (default: advcli.toml, else [tool.advcli] in "
                "pyproject.toml, in the working directory). Flags and ADVCLI_* variables win.",
            )
        )

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        rest = super().parse_args(ctx, args)
        settle(ctx)
        return rest

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except AdvcliError as error:
            keys = _keys_behind(error, ctx)
            if keys:
                error.hint = f"{error.hint} ({file_of(ctx)} sets {', '.join(keys)})".strip()
            raise


def file_of(ctx: click.Context) -> ConfigFile | None:
    """The configuration file in effect."""
    file: ConfigFile | None = ctx.meta.get(_FILE)
    return file


def stated_of(ctx: click.Context) -> dict[str, Any] | None:
    """What run.json keeps of the file: `{path, options {parameter: value}, gates}`, the last
    whether it has any."""
    file = file_of(ctx)
    if file is None:
        return None
    options = {name: entry.raw for name, entry in _stated_options(ctx).items()}
    gates = bool(file.gates(str(ctx.command.name)))
    return {"path": str(file.path), "options": options, "gates": gates}


def settle(ctx: click.Context) -> None:
    """What only all sources together can tell, once every parameter has its value."""
    if file_of(ctx) is not None:
        _yield_to_the_closer(ctx)
        _check_permission(ctx)


def _stated_options(ctx: click.Context) -> dict[str, Stated]:
    """What the file says to this command, by parameter."""
    file = file_of(ctx)
    if file is None:
        return {}
    stated = file.stated(str(ctx.command.name))
    names = {key_of(param): str(param.name) for param in ctx.command.params}
    return {names[key]: entry for key, entry in stated.items()}


def _read(ctx: click.Context, param: click.Parameter, value: Path | None) -> None:
    if ctx.resilient_parsing:
        return
    ctx.meta[_FILE] = find() if value is None else read(value)
    stated = _stated_options(ctx)
    ctx.default_map = {name: entry.value for name, entry in stated.items()}
    ctx.meta["advcli.origins"] = {name: entry.where for name, entry in stated.items()}


def _keys_behind(error: AdvcliError, ctx: click.Context) -> list[str]:
    """The file's keys that a refusal may come from: nobody typed them."""
    file = file_of(ctx)
    if file is None or error.exit_code != 2 or str(file) in error.message:
        return []
    keys = [
        str(key_of(param))
        for param in ctx.command.params
        if ctx.get_parameter_source(str(param.name)) is ParameterSource.DEFAULT_MAP
    ]
    if isinstance(error, UsageError):
        return [*keys, *(["gates"] if file.gates(str(ctx.command.name)) else [])]
    return [key for key in keys if key in _PATHS]


def _yield_to_the_closer(ctx: click.Context) -> None:
    """`-a` on the command line takes the place of the file's preset, and the reverse."""
    given = given_options(ctx)
    names = {key_of(param): param for param in ctx.command.params}
    for pair in EXCLUSIVE:
        params = [names[key] for key in pair if key in names]
        if any(param.name in given for param in params):
            for param in params:
                _drop(ctx, param)
    if "attack" in names and _only_natural(ctx, given):
        for key in ("eps", "norm"):  # say nothing about them
            _drop(ctx, names[key])


def _only_natural(ctx: click.Context, given: frozenset[str]) -> bool:
    """Whether threats without a norm were asked for, and nothing else."""
    from advcli.attacks.registry import is_natural
    from advcli.audit.presets import parse_preset

    if "attacks" in given:
        return all(map(is_natural, ctx.params["attacks"]))
    return "preset" in given and bool(parse_preset(ctx.params["preset"])[0].natural)


def _drop(ctx: click.Context, param: click.Parameter) -> None:
    """Takes back what the file says of a parameter."""
    name = str(param.name)
    if ctx.get_parameter_source(name) is ParameterSource.DEFAULT_MAP:
        many = isinstance(param, click.Option) and param.multiple
        ctx.params[name] = () if many else None
        ctx.set_parameter_source(name, ParameterSource.DEFAULT)


def _check_permission(ctx: click.Context) -> None:
    """A file that nobody named lets no code run; of one that was named, it is said."""
    file = file_of(ctx)
    for param in ctx.command.params:
        name, key = str(param.name), key_of(param)
        stated = ctx.get_parameter_source(name) is ParameterSource.DEFAULT_MAP
        if file is None or key not in _RUNS_CODE or not stated or not ctx.params[name]:
            continue
        if not file.named:
            raise UsageError(
                f"{file}: sets {key}, which runs code, and was only found here",
                f"if you trust it: --config {file}, or --{key} itself",
            )
        print(f"note: {file} sets {key}: code beside the model will be run", file=sys.stderr)

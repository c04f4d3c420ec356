"""Options that several commands share, stated once; values are checked before any work."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import click
from click.core import ParameterSource
from click.types import StringParamType

__all__ = [
    "EXAMPLES_SETTINGS",
    "TEXT",
    "FileName",
    "audit_options",
    "confident_option",
    "gate_options",
    "given_options",
    "images_options",
    "loading_options",
    "max_drop_option",
    "model_options",
    "origin_of",
    "output_options",
    "printing_options",
    "report_options",
    "use_color",
]

# For a configuration file, in JSON Schema (config_schema.py)
TEXT: dict[str, Any] = {"type": "string", "pattern": "^[^\\u0000]+$"}
_BUDGET = {"anyOf": [TEXT, {"type": "number", "exclusiveMinimum": 0, "maximum": 2**53}]}
_BUDGETS = {
    "title": 'a budget such as "8/255" or 0.03, or a list of them',
    "anyOf": [*_BUDGET["anyOf"], {"type": "array", "items": _BUDGET, "minItems": 1}],
}
_GATE = {
    "title": 'a percentage: 0, or 1 to 100; text such as "0.5%" or "pgd@8/255=40"',
    "anyOf": [
        TEXT,
        {"type": "number", "minimum": 0, "maximum": 0},
        {"type": "number", "minimum": 1, "maximum": 100},
    ],
}

_POINTS = {
    "title": "a number of percentage points",
    "anyOf": [TEXT, {"type": "number", "minimum": 0, "maximum": 100}],
}

F = TypeVar("F", bound=Callable[..., Any])

# ADVCLI_EPS, not ADVCLI_EVALUATE_EPS: one variable for every command that has the option
EXAMPLES_SETTINGS: dict[str, Any] = {
    "auto_envvar_prefix": "ADVCLI",
    "help_option_names": ["-h", "--help"],
    "max_content_width": 100,
}


class Parsed(click.ParamType[Any]):
    """A value whose own parser says what is wrong with it; kept as the parser returns it."""

    def __init__(
        self,
        name: str,
        module: str,
        function: str,
        *,
        keep_text: bool = False,
        schema: dict[str, Any] | None = None,
    ) -> None:
        self.name = name
        self._where = (module, function)
        self._keep_text = keep_text
        self.schema = schema

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        import importlib

        from advcli.errors import UsageError

        module, function = self._where
        try:
            parsed = getattr(importlib.import_module(module), function)(value)
        except UsageError as error:
            origin = origin_of(param, ctx)
            if origin is None:
                raise
            raise UsageError(f"{error.message} ({origin})", error.hint) from error
        return value if self._keep_text else parsed


class BatchSize(click.ParamType[Any]):
    """`auto` (None) or a positive count."""

    name = "auto|N"
    schema: ClassVar[dict[str, Any]] = {
        "anyOf": [{"enum": ["auto"]}, {"type": "integer", "minimum": 1, "maximum": 65536}]
    }

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value in (None, "auto"):
            return None
        try:
            count = int(value)
        except ValueError:
            count = 0
        if not 1 <= count <= 65536:
            self.fail(f"'{value}' is neither auto nor a number from 1 to 65536.", param, ctx)
        return count


class FileName(StringParamType):
    """The path of a file or folder, kept as text."""

    name = "path"
    is_path = True  # in a configuration file, relative to its folder


class NameOrIndex(StringParamType):
    """A name, or an index, which a configuration file may write as a number."""

    name = "text"
    schema: ClassVar[dict[str, Any]] = {
        "anyOf": [TEXT, {"type": "integer", "minimum": 0, "maximum": 2**31 - 1}]
    }


def _stacked(*decorators: Callable[[F], F]) -> Callable[[F], F]:
    def apply(function: F) -> F:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return apply


def loading_options(function: F) -> F:
    """Where a model is loaded, and what code of others that may run."""
    return _stacked(
        click.option(
            "--custom-objects",
            multiple=True,
            type=FileName(),
            metavar="FILE.py:NAME",
            help="Python class or function for a layer that Keras does not know; repeatable.",
        ),
        click.option(
            "--device",
            metavar="auto|cpu|gpu[:i]",
            default="auto",
            show_default=True,
            help="Where to compute.",
        ),
        click.option(
            "--allow-unsafe-model",
            is_flag=True,
            help="Run code that the model file carries (Lambda layers). Only for files you trust.",
        ),
    )(function)


def model_options(function: F) -> F:
    """What it takes to load a model."""
    return _stacked(
        click.option(
            "--preprocess",
            metavar="NAME|FORMULA",
            default="auto",
            show_default=True,
            help="What the model was trained on: auto, unit [0, 1], raw [0, 255], symmetric "
            "[-1, 1], caffe, torch, or (scale·x - mean) / std of x in [0, 1]: "
            "scale=255,mean=1:2:3,channels=bgr.",
        ),
        click.option(
            "--output",
            type=NameOrIndex(),
            metavar="NAME|INDEX",
            help="Which of several outputs classifies.",
        ),
        click.option(
            "--input-size",
            metavar="HxW",
            help="The size to audit at, for a model that takes images of any: 224x224.",
        ),
        loading_options,
    )(function)


def images_options(function: F) -> F:
    """How a folder becomes model-sized images with labels."""
    return _stacked(
        click.option(
            "--classes",
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="Class names in index order, one a line (default: the sub-folders, sorted).",
        ),
        click.option(
            "--labels",
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="CSV of file,label for a flat folder.",
        ),
        click.option(
            "--resize",
            type=click.Choice(["stretch", "crop", "pad"]),
            default="stretch",
            show_default=True,
            help="How a file becomes a model-sized image.",
        ),
        click.option(
            "--resample",
            type=click.Choice(["nearest", "bilinear", "bicubic", "lanczos"]),
            default="bilinear",
            show_default=True,
            help="The filter for it.",
        ),
        click.option(
            "--exif",
            type=click.Choice(["apply", "ignore"]),
            default="apply",
            show_default=True,
            help="Whether the EXIF rotation is applied.",
        ),
        click.option(
            "--limit",
            type=click.IntRange(min=1),
            metavar="N",
            help="Only N images, the first by a seeded hash: samples are nested.",
        ),
        click.option(
            "--seed",
            type=click.IntRange(min=0, max=2**31 - 1),
            default=0,
            show_default=True,
            help="Decides every random number and the sample of --limit.",
        ),
    )(function)


def gate_options(function: F) -> F:
    """What must hold."""
    return _stacked(
        click.option(
            "--fail-under",
            multiple=True,
            metavar="[SCOPE=]PERCENT",
            type=Parsed("GATE", "advcli.audit.gates", "parse_gate", keep_text=True, schema=_GATE),
            help="Exit 1 below this robust accuracy: 40, clean=90, pgd=40, pgd@8/255=40, "
            "linf@8/255=40, corruption=50, class:NAME=30; repeatable. Without a scope: every worst "
            "case.",
        ),
        confident_option,
        click.option("--exit-zero", is_flag=True, help="Exit 0 where a gate fails."),
    )(function)


def confident_option(function: F) -> F:
    """By what a gate is decided."""
    return click.option(
        "--confident",
        is_flag=True,
        help="Gates go by 95 % intervals: pass and fail only where the whole interval does, "
        "else exit 3, and how many more images would settle it.",
    )(function)


def max_drop_option(default: str) -> Callable[[F], F]:
    """How much less robust a run may be; `default` says what holds without it."""
    return click.option(
        "--max-drop",
        metavar="POINTS",
        type=Parsed("POINTS", "advcli.audit.gates", "parse_points", schema=_POINTS),
        help="Exit 1 where a worst case (or a natural or targeted figure) is more percentage "
        f"points lower on the same images. {default}",
    )


def baseline_options(function: F) -> F:
    """A run that this one must not fall behind."""
    return _stacked(
        click.option(
            "--baseline",
            metavar="RUN",
            type=FileName(),
            help="An earlier run directory: its images are paired with this run's by content, "
            "and a gate is set on the drop.",
        ),
        max_drop_option(
            "With --baseline alone: 0, any drop fails (give --confident some room: at 0 it "
            "passes only a proven gain)."
        ),
    )(function)


def report_options(function: F) -> F:
    """Where the figures are written."""
    return _stacked(
        click.option(
            "-r",
            "--report",
            "reports",
            envvar="ADVCLI_REPORT",
            multiple=True,
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="Write a report: .html, .md, .csv, .json, .junit.xml or .sarif; repeatable.",
        ),
    )(function)


def audit_options(function: F) -> F:
    """What is run, how, and what must hold."""
    return _stacked(
        click.option(
            "-a",
            "--attack",
            "attacks",
            envvar="ADVCLI_ATTACK",
            multiple=True,
            metavar="NAME[:key=value,…]",
            help="An attack, e.g. pgd:steps=100,norm=l2; repeatable. `advcli attacks` lists them.",
        ),
        click.option(
            "--preset",
            metavar="NAME[:version=…]",
            type=Parsed("PRESET", "advcli.audit.presets", "parse_preset", keep_text=True),
            help="A cascade: each attack sees what the ones before it left. audit = full strength "
            "in few model calls; quick = noise, fgsm, pgd; "
            "autoattack[:version=standard|full|plus|rand] = the protocol of record; "
            "blackbox = what needs no gradient; natural = corruptions, rotations and shifts, no "
            "cascade.",
        ),
        click.option(
            "--norm",
            type=click.Choice(["linf", "l2", "l1", "l0"], case_sensitive=False),
            help="The norm of the attacks that name none.",
        ),
        click.option(
            "--eps",
            type=Parsed("LIST", "advcli.threats.budget", "parse_eps_list", schema=_BUDGETS),
            help="Budgets in pixel space [0, 1]: 8/255 or 1/255,2/255,4/255; l0: pixels. "
            "Default: linf 8/255, scaled ones for the other norms.",
        ),
        click.option(
            "--targeted",
            type=NameOrIndex(),
            metavar="CLASS|least-likely|next",
            help="Look for this class instead of any wrong one.",
        ),
        click.option(
            "--generator",
            type=FileName(),
            metavar="FILE",
            help="For advgan: use this generator.keras of an earlier run instead of training one.",
        ),
        click.option(
            "--surrogate",
            type=FileName(),
            metavar="MODEL",
            help="Transfer: craft on this model, judge the finished image, once, on MODEL.",
        ),
        click.option(
            "--surrogate-preprocess",
            metavar="NAME|FORMULA",
            default="auto",
            show_default=True,
            help="What the surrogate was trained on.",
        ),
        click.option(
            "--batch-size",
            type=BatchSize(),
            default="auto",
            show_default=True,
            help="Images computed at once by each lane (one a core, one on a GPU): 1, or a "
            "multiple of 8, to which others are brought up. Where an attack asks several points "
            "per image, so many points: those of 1 image, or of a multiple of 8 (up to twice as "
            "many). Halved where memory runs out.",
        ),
        click.option(
            "--compile",
            type=click.Choice(["auto", "graph", "xla"]),
            default="auto",
            show_default=True,
            help="How steps are compiled. auto: the faster way whose gradient is right; XLA only "
            "where it wins clearly.",
        ),
        click.option(
            "--pixels",
            type=click.Choice(["uint8", "float"]),
            default="uint8",
            show_default=True,
            help="uint8: judged as an 8-bit file holds it. float: for comparison with papers.",
        ),
        click.option(
            "--soundness",
            type=click.Choice(["off", "fast", "full"]),
            default="fast",
            show_default=True,
            help="Whether the attacks can be believed. fast: gradients, randomness, saturation, "
            "attacks that contradict one another. full: also attacks some of the images left "
            "standing with more steps, no gradient, the largest budget: a tenth more model calls "
            "(of a large run), and some seconds to compile them.",
        ),
        click.option(
            "--shard",
            metavar="I/N",
            type=Parsed("I/N", "advcli.audit.shards", "parse_shard", keep_text=True),
            help="Only part I of N of the images; `advcli merge` puts the N runs together.",
        ),
        click.option(
            "--time-budget",
            metavar="DURATION",
            type=Parsed("DURATION", "advcli.audit.deadline", "parse_duration"),
            help="End after 90s, 10m or 1h30m: what blocks of random images were through by then "
            "is the sample that counts.",
        ),
        click.option("--allow-chance", is_flag=True, help="Go on although the model only guesses."),
        gate_options,
        click.option(
            "--dry-run",
            is_flag=True,
            help="Only say what would be run, with how many model calls at most, and seconds at "
            "the pace just measured.",
        ),
        baseline_options,
        click.option(
            "--out",
            type=click.Path(path_type=Path),
            metavar="DIR",
            help="The run directory: journal, summary and images.",
        ),
        click.option("--resume", is_flag=True, help="Go on with the run in --out."),
        report_options,
        click.option(
            "--only-fooled", is_flag=True, help="Write only perturbed images that fool the model."
        ),
    )(function)


def printing_options(*formats: str) -> Callable[[F], F]:
    """What a command prints."""
    return _stacked(
        click.option(
            "--format",
            "output_format",
            envvar="ADVCLI_FORMAT",
            type=click.Choice(formats),
            default=formats[0],
            show_default=True,
            help="What goes to standard output.",
        ),
        click.option(
            "--color",
            type=click.Choice(["auto", "always", "never"]),
            default="auto",
            show_default=True,
            help="NO_COLOR and FORCE_COLOR are respected.",
        ),
        click.option("-v", "--verbose", is_flag=True, help="Show where an error came from."),
    )


def output_options(*formats: str) -> Callable[[F], F]:
    """What goes to standard output and standard error."""
    return _stacked(
        printing_options(*formats),
        click.option(
            "--progress",
            type=click.Choice(["auto", "bar", "plain", "none"]),
            default="auto",
            show_default=True,
            help="How progress is shown on standard error.",
        ),
        click.option("-q", "--quiet", is_flag=True, help="No progress and no notes."),
    )


def given_options(ctx: click.Context) -> frozenset[str]:
    """Names of the parameters that the user stated, on the command line or by a variable."""
    stated = (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT)
    return frozenset(name for name in ctx.params if ctx.get_parameter_source(name) in stated)


def origin_of(param: click.Parameter | None, ctx: click.Context | None) -> str | None:
    """Where a value came from, but for the command line and defaults: `variable ADVCLI_EPS`,
    `advcli.toml: eps`."""
    if param is None or ctx is None or param.name is None:
        return None
    if ctx.get_parameter_source(param.name) is ParameterSource.DEFAULT_MAP:
        return str(ctx.meta["advcli.origins"][param.name])
    variable = variable_of(param, ctx)
    return None if variable is None else f"variable {variable}"


def variable_of(param: click.Parameter | None, ctx: click.Context | None) -> str | None:
    """The environment variable that a parameter's value came from; None: not from one."""
    if param is None or ctx is None or param.name is None:
        return None
    if ctx.get_parameter_source(param.name) is not ParameterSource.ENVIRONMENT:
        return None
    return str(param.envvar or f"{ctx.auto_envvar_prefix}_{param.name.upper()}")


def use_color(choice: str, stream: Any = None) -> bool:
    """Whether a stream gets colour: the flag, then NO_COLOR, FORCE_COLOR, then the terminal."""
    if choice != "auto":
        return choice == "always"
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    stream = stream or sys.stdout
    return bool(stream.isatty()) and os.environ.get("TERM") != "dumb"

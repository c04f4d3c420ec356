"""The Markdown table, and what has to stand beside any timing: versions, device, settings."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

_PACKAGES = (
    "tensorflow",
    "keras",
    "numpy",
    "foolbox",
    "adversarial-robustness-toolbox",
    "cleverhans",
)
HEADER = (
    "tool",
    "settings",
    "seconds",
    "range",
    "first call",
    "robust",
    "forwards",
    "gradients",
    "× advcli",
    "× plain",
)


@dataclass
class Row:
    """One contender's figures on one model; `absent` says why it has none."""

    name: str
    settings: str
    absent: str = ""
    first: float = 0.0
    seconds: list[float] = field(default_factory=list)
    answer: Any = None
    robust: int = 0
    breach: bool = False  # an image lies outside the ball or the box


@dataclass
class Report:
    """All rows for one model."""

    model: str
    images: int
    path: str  # how advcli compiles it
    rows: list[Row]

    def first_of(self, name: str) -> Row | None:
        return next((row for row in self.rows if row.name == name and row.seconds), None)

    def fastest_of(self, name: str) -> Row | None:
        rows = [row for row in self.rows if row.name == name and row.seconds]
        return min(rows, key=lambda row: median(row.seconds), default=None)


def ratio(row: Row, base: Row | None) -> float | None:
    """How many times slower than `base`: the median of the ratios within a round."""
    if base is None:
        return None
    return median(a / b for a, b in zip(row.seconds, base.seconds, strict=True))


def _number(value: float | None, digits: int = 2) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _cells(report: Report, row: Row) -> list[str]:
    if row.absent:
        return [row.name, row.settings, row.absent, *["–"] * (len(HEADER) - 3)]
    return [
        row.name,
        row.settings,
        _number(median(row.seconds), 3),
        f"{min(row.seconds):.3f}–{max(row.seconds):.3f}",
        _number(row.first),
        f"{row.robust / report.images:.1%}" + (" (outside the ball)" if row.breach else ""),
        _number(row.answer.forwards, 1),
        _number(row.answer.gradients, 1),
        _number(ratio(row, report.first_of("advcli"))),
        _number(ratio(row, report.fastest_of("plain loop"))),
    ]


def grid(header: Sequence[str], rows: Sequence[Sequence[object]], left: int = 1) -> str:
    """A table; all but the first `left` columns are numbers."""
    lines = [header, ["---"] * left + ["---:"] * (len(header) - left), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def page(facts: Mapping[str, str], *sections: str) -> str:
    """What a benchmark prints: the facts that its figures depend on, then tables and remarks."""
    return "\n".join(f"- {name}: {value}" for name, value in facts.items()) + "".join(
        f"\n\n{section}" for section in sections
    )


def publish(text: str, out: Path | None) -> None:
    """Print, and write where `--out` says."""
    print(text)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text + "\n", encoding="utf-8")


def markdown(reports: Sequence[Report], facts: Mapping[str, str]) -> str:
    """One table per model, under the facts that it depends on."""
    lines = [page(facts)]
    for report in reports:
        lines += [
            "",
            f"**{report.model}**, {report.images} images, advcli compiled as {report.path}",
            "",
            grid(HEADER, [_cells(report, row) for row in report.rows], left=2),
        ]
    lines += [
        "",
        "Seconds: median for all images, first call excluded. Robust: share still classified "
        "correctly by `model.predict`. Forwards and gradients: per image, where counted; a "
        "gradient includes its forward. × advcli: against the first row; × plain: against the "
        "faster plain loop; both medians of the ratios within a round, above 1 is slower.",
    ]
    return "\n".join(lines)


def outside() -> dict[str, str]:
    """Versions, device and the settings of TensorFlow that all contenders share."""
    import tensorflow as tf

    import advcli
    from advcli.models.runtime import describe_device

    found = [f"advcli {advcli.__version__}"]
    for package in _PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            found.append(f"{package} not installed")
    settings = {
        "TF_DETERMINISTIC_OPS": os.environ.get("TF_DETERMINISTIC_OPS", "unset"),
        "TF_ENABLE_ONEDNN_OPTS": os.environ.get("TF_ENABLE_ONEDNN_OPTS", "unset"),
        "TF32": "on" if tf.config.experimental.tensor_float_32_execution_enabled() else "off",
    }
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "versions": f"Python {platform.python_version()}, " + ", ".join(found),
        "device": f"{describe_device()}, {_processor()}, {cores} cores, {platform.platform()}",
        "settings": ", ".join(f"{name} {value}" for name, value in settings.items())
        + " (the same for all)",
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()

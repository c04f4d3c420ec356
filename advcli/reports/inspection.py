"""What `advcli inspect` found, for people."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from advcli.images.text import printable
from advcli.reports import figures
from advcli.reports.terminal import console_text

__all__ = ["render"]


def render(facts: dict[str, Any], *, width: int | None = None, color: bool = False) -> str:
    parts: list[Any] = [_facts(facts)]
    if "images" in facts:
        images = facts["images"]
        chosen = images["preprocessing"]
        parts += [Text(), _candidates(images), Text()]
        if chosen["at_chance"]:
            parts.append(Text("even the best is no better than guessing", style="bold red"))
        if "stated" in facts:
            parts.append(_beside(facts["stated"]["flag"], chosen["candidates"]))
        else:
            paste = "if its training code says so" if chosen["suspect"] else "paste this"
            parts.append(Text(f"{paste}: --preprocess {chosen['flag']}", style="bold"))
            if chosen["suspect"]:
                parts.append(Text(f"suspect  {chosen['doubt']}", style="yellow"))
        parts += [Text(f"note  {printable(note)}") for note in images["notes"]]
        parts += [
            Text(f"skipped  {printable(entry['file'], 60)}: {printable(entry['reason'], 120)}")
            for entry in images["skipped"][:20]
        ]
        if len(images["skipped"]) > 20:
            parts.append(Text(f"skipped  {len(images['skipped']) - 20} more (--format json)"))
    return console_text(*parts, width=width, color=color)


def _beside(flag: str, candidates: list[dict[str, Any]]) -> Text:
    """What the images say of the preprocessing that was stated."""
    why = next((c["excluded_because"] for c in candidates if c["flag"] == flag), "")
    if why:
        return Text(f"suspect  the images speak against --preprocess {flag}: {why}", style="yellow")
    known = any(c["flag"] == flag for c in candidates)
    said = "do not exclude" if known else "were not asked about"
    return Text(f"the images {said} --preprocess {flag}", style="bold")


def _facts(facts: dict[str, Any]) -> Table:
    model, head, images = facts["model"], facts["head"], facts.get("images")
    height, width, channels = facts["input"]["shape"]
    runs = facts["safety"]["runs_code"]
    rows = [
        ("model", model["path"]),
        ("sha256", model["sha256"]),
        ("saved by", f"Keras {model['keras_version'] or 'unknown'} ({model['format']})"),
        ("size", f"{model['layers']} layers, {model['parameters']:,} parameters"),
        ("safety", "; ".join(runs) if runs else "nothing in the file runs code"),
        ("mended", "; ".join(facts["rules"]) or "nothing: it loads as it is"),
        ("input", f"{height}×{width}×{channels} ({facts['input']['layout']})"),
        ("ends in", f"{head['ending']}, {head['classes']} classes (output {head['output']})"),
    ]
    if "stated" in facts:
        rows.append(("preprocess", f"{facts['stated']['flag']} ({facts['stated']['by']})"))
    if "saved" in facts:
        rows.append(("written", facts["saved"]))
    if model["optimizer_steps"] == 0:
        rows.append(("training", "saved at optimizer step 0: it may never have been trained"))
    if images is not None:
        found = f"{images['count']} in {images['root']} ({_labels(images)})"
        rows.append(("images", f"{found}; looked at {images['sampled']}"))
        if images["classes"]:
            rows.append(("classes", ", ".join(images["classes"])))
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, printable(str(value)))
    return table


def _labels(images: dict[str, Any]) -> str:
    return {
        "folder": "labels: sub-folders",
        "file": "labels: file",
        "model": "no labels",
    }[images["labels"]]


def _candidates(images: dict[str, Any]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
    table.add_column("--preprocess", overflow="fold")
    for heading in ("accuracy", "95 %", "images", "BatchNorm KL"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("evidence", overflow="fold")
    chosen = images["preprocessing"]["flag"]
    for candidate in images["preprocessing"]["candidates"]:
        kl = candidate["batchnorm_kl"]
        best = candidate["flag"] == chosen
        table.add_row(
            candidate["flag"],
            figures.percent(candidate["accuracy"]),
            figures.interval(candidate["ci95"]),
            str(candidate["images"]),
            "–" if kl is None else f"{kl:.3g}",
            candidate["excluded_because"] or ("chosen" if best else "not excluded"),
            style="bold" if best else "",
        )
    return table

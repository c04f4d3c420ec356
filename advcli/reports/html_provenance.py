"""What the figures of a run rest on, in words: model, images, run, software."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from advcli.audit.journal import dumps

__all__ = ["provenance"]


def provenance(summary: dict[str, Any]) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """(heading, its facts in words) of everything that the figures rest on."""
    model, images, engine = summary["model"], summary["images"], summary["engine"]
    known = summary["provenance"]
    chosen = model["preprocessing"]
    formula = ", ".join(
        f"{key} {_plain(chosen[key])}"
        for key in ("scale", "mean", "std", "channels")
        if chosen.get(key) not in (None, [], "")
    )
    yield (
        "Model",
        _stated(
            ("file", model["path"]),
            ("sha256", model["sha256"]),
            ("Keras version", model.get("keras_version")),
            ("input", "×".join(map(str, model.get("input_shape") or ()))),
            ("rules applied", ", ".join(model.get("rules") or ()) or "none"),
            ("preprocessing", chosen["flag"]),
            ("as a formula", formula),
            ("evidence", chosen.get("evidence")),
        ),
    )
    surrogate = known.get("surrogate")
    if surrogate:
        yield (
            "Surrogate",
            _stated(
                ("file", surrogate["path"]),
                ("sha256", surrogate["sha256"]),
                ("preprocessing", surrogate["preprocessing"]["flag"]),
            ),
        )
    labels = {"folder": "sub-folders", "file": "label file", "model": "the model's own prediction"}
    yield (
        "Images",
        _stated(
            ("folder", images["root"]),
            ("files found", f"{images['count']:,}"),
            ("evaluated", f"{images['evaluated']:,}"),
            ("skipped", f"{len(images['skipped']):,}"),
            ("labels from", labels.get(images["labels"], images["labels"])),
            ("judged as", "8-bit files" if summary["pixels"] == "uint8" else "float pixels"),
        ),
    )
    shown = ("command", "folder", "started", "finished", "seed", "advcli", "python", "platform")
    own = {*shown, "surrogate", "targeted", "cascade"}
    yield (
        "Run",
        _stated(
            ("command", known.get("command")),
            ("in folder", known.get("folder")),
            ("started", known.get("started")),
            ("finished", known.get("finished")),
            ("seed", known.get("seed")),
            ("device", engine["device"]),
            ("compiled", engine["compiled"]),
            ("batch size", engine["batch_size"]),
            ("attack time", f"{engine['seconds']:.1f} s"),
            ("within the model", f"{engine['model_seconds']:.1f} s"),
        ),
    )
    yield (
        "Software",
        _stated(
            ("advcli", summary["advcli_version"]),
            ("Python", known.get("python")),
            *((key, value) for key, value in known.items() if key not in own),
            ("platform", known.get("platform")),
        ),
    )


def _stated(*facts: tuple[str, Any]) -> list[tuple[str, str]]:
    return [(name, _plain(value)) for name, value in facts if value not in (None, "")]


def _plain(value: Any) -> str:
    """A stored value in words."""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, (list, tuple)):
        return "(" + ", ".join(map(_plain, value)) + ")"
    return value if isinstance(value, str) else dumps(value)

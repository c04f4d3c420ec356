"""Runs references in an interpreter of their own; `tests.benchmarks.parity` starts it.

    KERAS_BACKEND=torch python -m tests.benchmarks.parity_worker FOLDER

FOLDER/request.json says what to run, FOLDER/problem.npz holds the images; every run leaves its
images in FOLDER/N.npz, or what went wrong in FOLDER/N.txt.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
import traceback
import warnings
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.references import Reference, Task, references


def main(folder: Path) -> None:
    """Everything that the request asks for, in its order."""
    request = json.loads((folder / "request.json").read_text())
    model, scale = logits_model(Path(request["model"]))
    problem = dict(np.load(folder / "problem.npz"))
    for number, run in enumerate(request["runs"]):
        reference = references()[run["reference"]]
        try:
            _answer(folder / f"{number}.npz", reference, run, model, scale, problem, request)
        except Exception:  # noqa: BLE001 - a row of the table says so, the others go on
            (folder / f"{number}.txt").write_text(traceback.format_exc())


def _answer(
    file: Path,
    reference: Reference,
    run: dict[str, Any],
    model: Any,
    scale: float,
    problem: dict[str, np.ndarray],
    request: dict[str, Any],
) -> None:
    if reference.authors:
        sys.path.insert(0, str(Path(request["authors"]) / reference.authors))
    task = Task(
        model,
        scale,
        problem["pixels"].astype(np.float32) / np.float32(255),
        problem["labels"],
        reference.norm,
        float(run["eps"]),
        int(run["seed"]),
    )
    if reference.targeted:
        task.targets = problem["targets"]
        task.starts = problem["starts"].astype(np.float32) / np.float32(255)
    began = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        images = np.asarray(reference.run(task), np.float32)
    seconds = time.perf_counter() - began
    calls = task.asked / len(task.x) if task.asked else reference.calls
    np.savez(
        file,
        images=images,
        calls=np.nan if calls is None else calls,
        seconds=seconds,
        version=release(reference, Path(request["authors"])),
    )


def logits_model(path: Path) -> tuple[Any, float]:
    """The file without its last softmax, and what pixels in [0, 1] are multiplied by for it."""
    import keras

    model = keras.models.load_model(path, compile=False)
    probabilities = keras.models.load_model(path, compile=False)
    model.layers[-1].activation = keras.activations.linear
    x = np.random.default_rng(0).random((4, *model.input_shape[1:]), np.float32)
    scale = 255.0 if any("Rescaling" in type(layer).__name__ for layer in model.layers) else 1.0
    z = keras.ops.softmax(model(x * scale))
    expected = probabilities(x * scale)
    if not np.allclose(*(keras.ops.convert_to_numpy(y) for y in (z, expected)), atol=1e-5):
        raise RuntimeError(f"{path}: does not end in a softmax layer")
    return model, scale


def release(reference: Reference, authors: Path) -> str:
    """A package's version, or the commit that `authors/<folder>/COMMIT` states."""
    if reference.package:
        try:
            return version(reference.package)
        except PackageNotFoundError:
            return str(getattr(importlib.import_module(reference.package), "__version__", "?"))
    commit = authors / reference.authors / "COMMIT"
    return commit.read_text().split()[0][:7] if commit.is_file() else "?"


if __name__ == "__main__":
    main(Path(sys.argv[1]))

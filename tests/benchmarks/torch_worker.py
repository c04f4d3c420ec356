"""PyTorch's side of the benchmarks, in the interpreter that has it; `torch_side` talks to it.

    KERAS_BACKEND=torch python -m tests.benchmarks.torch_worker

One JSON request a line on standard input, one answer a line on standard output:
`open` a model and its images, time a `step`, run `autoattack` (the authors' standard version).
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


class Worker:
    """What is loaded, and what can be asked of it."""

    def open(self, request: dict[str, Any]) -> dict[str, Any]:
        """The model as native modules, or through Keras where that is asked for or inevitable."""
        import keras
        import torch

        from tests.benchmarks.torch_net import Twin

        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        formula = request["preprocessing"]
        model = keras.models.load_model(request["model"], compile=False)
        problem = np.load(request["problem"])
        x = problem["pixels"].astype(np.float32) / np.float32(255)
        self.x = torch.from_numpy(x).permute(0, 3, 1, 2).contiguous().to(self.device)
        self.y = torch.from_numpy(problem["labels"]).to(self.device)
        through_keras = _through_keras(keras, model, formula)
        why = ""
        if request["net"] == "native":
            try:
                self.net = Twin(model, formula).eval().to(self.device)
                error = self._disagreement(through_keras)
                if error > 1e-4:
                    raise RuntimeError(f"the native model's logits differ by {error:.2g}")
            except NotImplementedError as absent:
                why = f"no native {absent}"
        if request["net"] != "native" or why:
            self.net = through_keras
        return {
            "net": "PyTorch, channels-last" if self.net is not through_keras else "Keras on torch",
            "why": why,
            "torch": torch.__version__,
            "device": self.device,
            "threads": torch.get_num_threads(),
        }

    def _disagreement(self, other: Callable[[Any], Any]) -> float:
        import torch

        with torch.no_grad():
            z, expected = self.net(self.x[:32]), other(self.x[:32])
        return float((z - expected).abs().max() / expected.abs().max())

    def step(self, request: dict[str, Any]) -> dict[str, Any]:
        """Mean seconds of one of `count` forward passes, or steps along a gradient's sign."""
        import torch
        from torch.nn import functional

        rows = torch.arange(request["batch"]) % len(self.x)
        x, y = self.x[rows].contiguous(memory_format=torch.channels_last), self.y[rows]
        began = time.perf_counter()
        for _ in range(request["count"]):
            if request["kind"] == "forward":
                with torch.no_grad():
                    self.net(x)
                continue
            x = x.detach().requires_grad_()
            loss = functional.cross_entropy(self.net(x), y, reduction="sum")
            g = torch.autograd.grad(loss, x)[0]
            x = (x.detach() + 1e-3 * g.sign()).clamp_(0, 1)
        if self.device == "cuda":
            torch.cuda.synchronize()
        return {"seconds": (time.perf_counter() - began) / request["count"]}

    def autoattack(self, request: dict[str, Any]) -> dict[str, Any]:
        """The standard version; its images go to request["out"], float32 [N, H, W, C]."""
        import torch

        if request["authors"] not in sys.path:
            sys.path.insert(0, request["authors"])
        from autoattack import AutoAttack

        asked = {"forwards": 0, "gradients": 0}

        def counted(x: Any) -> Any:
            asked["forwards"] += len(x)
            asked["gradients"] += len(x) * bool(x.requires_grad)
            return self.net(x)

        torch.manual_seed(request["seed"])
        attack = AutoAttack(
            counted,
            norm="Linf",
            eps=request["eps"],
            seed=request["seed"],
            version="standard",
            device=self.device,
        )
        if request.get("queries"):  # for a glance at whether it runs
            attack.square.n_queries = request["queries"]
            attack.apgd.n_iter = attack.apgd_targeted.n_iter = attack.fab.n_iter = 5
        began = time.perf_counter()
        found = attack.run_standard_evaluation(self.x, self.y, bs=250)
        if self.device == "cuda":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - began
        images = found.detach().cpu().numpy().transpose(0, 2, 3, 1)
        np.save(request["out"], np.ascontiguousarray(images, dtype=np.float32))
        commit = Path(request["authors"]) / "COMMIT"
        release = commit.read_text().split()[0][:7] if commit.is_file() else "?"
        return {"seconds": seconds, **asked, "release": release}


def _through_keras(keras: Any, model: Any, formula: dict[str, Any]) -> Callable[[Any], Any]:
    """The model without its softmax, run by Keras's own torch backend."""
    import torch

    model.layers[-1].activation = keras.activations.linear
    mean, std = (torch.tensor(formula[key], dtype=torch.float32) for key in ("mean", "std"))

    def logits(x: Any) -> Any:
        x = x.permute(0, 2, 3, 1)
        x = x.flip(-1) if formula["channels"] == "bgr" else x
        return model((x * formula["scale"] - mean.to(x.device)) / std.to(x.device), training=False)

    return logits


def main() -> None:
    """Answers until standard input ends; whatever else is printed goes to standard error."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    worker = Worker()
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = getattr(worker, request["do"])(request)
        except Exception:  # noqa: BLE001 - the other side says so and goes on
            answer = {"error": traceback.format_exc()}
        print(json.dumps(answer), file=answers)


if __name__ == "__main__":
    main()

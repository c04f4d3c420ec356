"""Talks to `torch_worker`: PyTorch takes its turns in another interpreter, one at a time."""

from __future__ import annotations

import json
import os
import subprocess
import time
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from tests.benchmarks.cases import ROOT, Opened

_COMMAND = ("-m", "tests.benchmarks.torch_worker")


class TorchSide(AbstractContextManager["TorchSide"]):
    """A worker that is waiting. `lifetime` is its wall clock from start to end, once closed."""

    def __init__(self, python: str | Path) -> None:
        self._began = time.perf_counter()
        self.lifetime = 0.0
        self._worker = subprocess.Popen(
            [str(python), *_COMMAND],
            cwd=ROOT,
            env={**os.environ, "KERAS_BACKEND": "torch"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        """The answer to one request; RuntimeError with the worker's traceback."""
        assert self._worker.stdin is not None
        assert self._worker.stdout is not None
        self._worker.stdin.write(json.dumps({"do": do, **request}) + "\n")
        self._worker.stdin.flush()
        line = self._worker.stdout.readline()
        if not line:
            raise RuntimeError(f"torch's worker ended with exit {self._worker.wait()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer

    def open(self, opened: Opened, problem: Path, net: str = "native") -> dict[str, Any]:
        """Hands over a case: the file, how it wants its pixels, and the images in `problem`."""
        scale, mean, std, channels = opened.classifier.preprocessing.formula
        np.savez(problem, pixels=opened.pixels, labels=opened.labels.astype(np.int64))
        formula = {"scale": scale, "mean": mean, "std": std, "channels": channels}
        return self.ask(
            "open",
            model=str(opened.case.model.resolve()),
            problem=str(problem),
            preprocessing=formula,
            net=net,
        )

    def close(self) -> None:
        """Ends the worker."""
        if self._worker.stdin is not None and not self._worker.stdin.closed:
            self._worker.stdin.close()
            self._worker.wait()
            self.lifetime = time.perf_counter() - self._began

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

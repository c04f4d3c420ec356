"""The long run, outside CI: every part in child processes with limits of time and memory.

Prints a Markdown table with a line per part, and writes every failing input to a folder. Exit code
1 where anything was found. Seconds are of processor time, children included. Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.fuzz import worker

# Of 100 cases that need no TensorFlow; a part is a module beside this one.
SHARES = {
    "configs": 28,
    "files": 20,
    "images": 20,
    "labels": 15,
    "folders": 10,
    "options": 5,
    "config_files": 2,
}
REAL_SECONDS = 120
_EACH = {"files": 500, "loads": 50}
_KEPT = 3


@dataclass
class Tally:
    """What came of one part."""

    part: str
    folder: Path
    cases: int = 0
    refused: int = 0
    findings: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0
    peak: int = 0

    def add(self, found: dict[str, Any]) -> None:
        self.cases += 1
        self.refused += found["outcome"] == "refused"
        self.slowest = max(self.slowest, found.get("seconds", 0.0))
        self.peak = max(self.peak, found.get("bytes", 0))
        if found["outcome"] == "finding":
            kind, case = found["kind"], bytes.fromhex(found["case"])
            self.findings[kind] += 1
            if self.findings[kind] <= _KEPT:
                self._keep(kind, found.get("trace", ""), case)

    def _keep(self, kind: str, trace: str, case: bytes) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / worker.finding_name(self.part, case)
        path.write_bytes(case)
        path.with_suffix(".txt").write_text(f"{kind}\n{trace}", errors="backslashreplace")
        print(f"{self.part}: {kind}: {path}", file=sys.stderr, flush=True)

    def line(self) -> str:
        found = "; ".join(f"{kind} ({count})" for kind, count in self.findings.most_common())
        return (
            f"| {self.part} | {self.cases:,} | {self.refused:,} | {found or 'none'} "
            f"| {self.slowest:.1f} s | {self.peak / 1e6:.0f} MB |"
        )


def run_part(part: str, cases: int, first_seed: int, folder: Path) -> Tally:
    """Workers one after the other, until so many cases have been run."""
    tally = Tally(part, folder)
    seed = first_seed
    fruitless = 0
    while tally.cases < cases and fruitless < 20:
        before = tally.cases
        count = min(_EACH.get(part, 1000), cases - tally.cases)
        with tempfile.TemporaryDirectory(prefix="fuzz-") as scratch:
            _run_worker(tally, seed, count, Path(scratch))
        fruitless = fruitless + 1 if tally.cases == before else 0
        seed += 1_000_003
    return tally


def _run_worker(tally: Tally, seed: int, count: int, scratch: Path) -> None:
    command = [sys.executable, "-m", "tests.fuzz.worker"]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    log = scratch / "log"
    with (
        log.open("wb") as errors,
        subprocess.Popen(
            [*command, tally.part, str(seed), str(count), str(scratch)],
            stdout=subprocess.PIPE,
            stderr=errors,
            env=environment,
        ) as child,
    ):
        assert child.stdout is not None
        ended = ""
        running = False
        for line in _lines(child):
            running = line == b"start"
            if line.startswith(b"end "):
                tally.add(json.loads(line[4:]))
            elif line.startswith(b"stop "):
                ended = line[5:].decode()
                child.kill()
        code = child.wait()
    if ended or (code and running):
        noise, case = scratch / "noise", (scratch / "current").read_bytes()
        trace = noise.read_text(errors="replace")[-3000:]
        kind = ended or f"dies ({code})"
        tally.add({"outcome": "finding", "kind": kind, "trace": trace, "case": case.hex()})
    elif code:
        said = log.read_text(errors="replace")
        raise RuntimeError(f"the worker of {tally.part} ended with {code}:\n{said[-3000:]}")


def _lines(child: subprocess.Popen[bytes]) -> Iterator[bytes]:
    """The worker's lines; a last one, "stop …", says why the case under way has to be ended."""
    assert child.stdout is not None
    descriptor = child.stdout.fileno()
    rest = last = b""
    since, spent = time.monotonic(), _seconds_of(child.pid)
    while not last.startswith(b"stop"):
        if select.select([descriptor], [], [], 0.2)[0]:
            block = os.read(descriptor, 2**16)
            if not block:
                return
            *whole, rest = (rest + block).split(b"\n")
            yield from whole
            last = whole[-1] if whole else last
            since, spent = time.monotonic(), _seconds_of(child.pid)
        elif last == b"start":
            if _seconds_of(child.pid) - spent > worker.SECONDS:
                last = b"stop takes over %d s" % worker.SECONDS
            elif time.monotonic() - since > REAL_SECONDS:
                last = b"stop hangs for %d s" % REAL_SECONDS
            elif worker.peak_bytes(child.pid) > worker.BYTES:
                last = b"stop takes over 2 GB"
    yield last


def _seconds_of(process: int) -> float:
    """Processor time of a process, its own and its ended children's."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--cases", type=int, default=100_000, help="cases without TensorFlow")
    parser.add_argument("--loads", type=int, default=500, help="whole loads of a model file")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=[*SHARES, "loads"], help="all the cases for one part")
    parser.add_argument("--finds", type=Path, default=Path("fuzz-finds"), help="failing inputs")
    asked = parser.parse_args()
    shares = {part: asked.cases * share // 100 for part, share in SHARES.items()}
    shares["loads"] = asked.loads
    if asked.only:
        shares = {asked.only: asked.loads if asked.only == "loads" else asked.cases}
    print(
        "| part | cases | refused | findings | slowest | peak memory |\n|---|---|---|---|---|---|"
    )
    found = False
    for part, cases in shares.items():
        if cases:
            tally = run_part(part, cases, asked.seed, asked.finds)
            print(tally.line(), flush=True)
            found |= bool(tally.findings)
    return int(found)


if __name__ == "__main__":
    sys.exit(main())

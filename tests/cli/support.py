"""Runs the command line as a shell script in CI would."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SAMPLES = Path(__file__).parents[2] / "sample_models" / "digits"
PYTHON = sys.executable


def environment(**more: str) -> dict[str, str]:
    inherited = ("ADVCLI_", "NO_COLOR", "FORCE_", "GITHUB_STEP_SUMMARY")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(inherited)}
    return kept | more


def shell(script: str, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    """`script` under bash's strict mode; `advcli` is this checkout's."""
    prelude = f'set -euo pipefail; advcli() {{ "{PYTHON}" -m advcli "$@"; }}\n'
    return subprocess.run(
        ["bash", "-c", prelude + script],
        capture_output=True,
        text=True,
        timeout=180,
        cwd=cwd or SAMPLES.parents[1],
        env=environment(**env),
        check=False,
    )

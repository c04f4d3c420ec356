"""`advcli` and `python -m advcli`."""

from __future__ import annotations

import gc
import sys


def main() -> None:
    """The console script."""
    gc.set_threshold(700, 10, 100)  # else TensorFlow's import and tracing take 0.7 s more
    try:
        from advcli.cli.exits import run
    except ImportError as error:  # Python's own exit code 1 would read as a failed gate
        print(f"error: advcli is not installed completely: {error}", file=sys.stderr)
        print("hint: pip install --force-reinstall advcli", file=sys.stderr)
        sys.exit(3)
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()

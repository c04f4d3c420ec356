"""`advcli` and `python -m advcli`."""

from __future__ import annotations

import sys

from advcli.cli.exits import run


def main() -> None:
    """The console script."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()

"""Commands on a model, files and classes with hostile names, in one process of its own.

    python -m tests.reports.hostile FOLDER      builds everything in FOLDER and runs the commands

What each printed, as bytes of descriptors 1 and 2, is kept in FOLDER/<name>.out and .err, its exit
code in FOLDER/<name>.code.
"""

from __future__ import annotations

import csv
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

SIDE = 8

# One file and one class folder each; no "/" is possible in these.
NAMES = (
    # a terminal's own language: colours, links, titles, C1, line ends
    *("\x1b[31mred\x1b[0m", "\x1b]8;;https:x\x1b\\link\x1b]8;;\x07", "\x1b]0;title\x07", "\x9b31m"),
    *("a\x85b", "two\nlines\r\n=1", "\u2028sep", "\x08\x08back", "a\x7f", "\x1b[2K\rerror: gone"),
    # what the eye cannot see
    *("\u202egpj.exe\u2066", "zero\u200bwidth\ufeff", "\U000e0041tag", "\udcff\udcfe"),
    # Rich
    *("[red]rich[bold]", "[link=file:x]y[", "[/red]".replace("/", "\\"), ":smile:"),
    # Markdown and HTML
    *("a|b|c", "``x`", "[t](u)", "![i](u)", "<img src=x onerror=alert(1)>", "<https:x>", "*b*_i_"),
    *("~~s~~", "- item", "# head", "&lt;b&gt;", "]]>&amp;", "$x$", "@team", "#123 GH-1", "a\\"),
    *("www.evil.example", "me@evil.example", "<!-- x", "[^1]"),
    # spreadsheets
    *("=cmd|' 'C'!A0", "+1", "-1", "@SUM(A1)", "\t=2", "\r=3", "x;=1+1", 'y;"=1"', '\'q"q"', "＝9"),
    # shells, templates, options
    *("$(id)", "{{7*7}}", "--help", " lead ", "w" * 200),
)
# Names that only a label file can hold, in place of as many of the others.
SLASHED = (
    *("https://evil.example/x", "HTTP://EVIL.EXAMPLE", "../../../etc/passwd", "</td><script>"),
    *("[x](https://evil.example)", "ftp://evil.example", "mailto:me@evil.example"),
)
LABELS = (*SLASHED, *NAMES[len(SLASHED) :])
GATED = tuple(name for name in NAMES if name == name.strip())  # spaces around a scope are dropped
MODEL = "m\x1b[31m|[red]\u202e\udcff=1\n<b>@x.h5"
LAYER = "\x1b[31m[red]|=1\n<b>@x"
IMAGES = "images\x1b[2J|`[x](y)\udcfe"
TARGET = LABELS.index("a|b|c")
FGSM = ["-a", "fgsm", "--eps", "0.5", "--preprocess", "unit", "--progress", "plain"]
ENDS = ("md", "csv", "json", "html", "junit.xml", "sarif")


def build(root: Path) -> None:
    """A linear model that tells classes apart by where the one white pixel lies, and its images."""
    import keras
    import numpy as np
    from PIL import Image

    count = len(NAMES)
    model = keras.Sequential(
        [
            keras.Input((SIDE, SIDE, 3)),
            keras.layers.Flatten(),
            keras.layers.Dense(count, activation="softmax", name=LAYER),
        ]
    )
    weights = np.zeros((SIDE * SIDE * 3, count), np.float32)
    for index in range(count):
        weights[3 * index : 3 * index + 3, index] = 4
    model.layers[-1].set_weights([weights, np.zeros(count, np.float32)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save(root / "model.h5")
    (root / "model.h5").rename(root / MODEL)

    def picture(index: int, path: Path) -> None:
        pixels = np.zeros((SIDE * SIDE, 3), np.uint8)
        pixels[index] = 255
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.reshape(SIDE, SIDE, 3)).save(path, "PNG")

    for index, name in enumerate(sorted(NAMES)):
        picture(index, root / IMAGES / name / f"{name}.png")
    (root / IMAGES / "+1" / "j\x1b[2J|[x](y)@team.png").write_bytes(b"no image")
    (root / IMAGES / "+1" / "=k\x1b[2J<b>.txt").write_bytes(b"text")
    for index, name in enumerate(NAMES[:2]):
        picture(index, root / "two" / name / "a.png")
    order = sorted(label.strip() for label in LABELS)
    rows = [("file", "label")]
    for name, label in zip(NAMES, LABELS, strict=True):
        picture(order.index(label.strip()), root / "flat" / f"{name}.png")
        rows.append((f"{name}.png", label))
    file = root / "labels.csv"
    with file.open("w", encoding="utf-8", errors="surrogateescape", newline="") as lines:
        csv.writer(lines, quoting=csv.QUOTE_ALL).writerows(rows)


def commands(root: Path) -> dict[str, list[str]]:
    gates = [part for name in GATED for part in ("--fail-under", f"class:{name}=10")]
    model, images, flat = str(root / MODEL), str(root / IMAGES), str(root / "flat")
    labels = ["--labels", str(root / "labels.csv")]
    out = [part for end in ENDS for part in ("-r", str(root / f"attack.{end}"))]
    aimed = [part for end in ENDS for part in ("-r", str(root / f"aimed.{end}"))]
    run = str(root / "run\x1b[31m\udcff")
    evidence = ["--evidence", str(root / "evidence")]
    return {
        "attack": ["attack", model, images, *FGSM, *gates, *out, "--out", run],
        "report": ["report", run, "-r", str(root / "again.html"), *evidence],
        "aimed": ["evaluate", model, flat, *labels, *FGSM, *aimed, "--targeted", LABELS[TARGET]],
        "json": ["attack", model, images, *FGSM, "--out", run, "--resume", "--format", "json"],
        "compare": ["compare", run, run],
        "annotations": ["report", run, "--format", "github"],
        "inspect": ["inspect", model, images],
        "verify": ["verify", run],
        "attacks": ["attacks"],
        "mismatch": ["evaluate", model, str(root / "two"), *FGSM],
        "no output": ["inspect", model, "--output", f"gone{LAYER}"],
        "no class": ["evaluate", model, flat, *labels, *FGSM, "-v", "--targeted", "\x1b[2J\udcff"],
        "no attack": ["evaluate", model, images, "-v", "-a", "fg\x1b[31msm"],
        "no option": ["evaluate", model, images, "--limit", "\x1b[2J"],
        "no model": ["inspect", str(root / "gone\x1b[2J\n\u202e.h5")],
        "no images": ["evaluate", model, str(root / "gone\x9b2J")],
    }


def captured(root: Path, name: str, work: Callable[[], int]) -> None:
    """Keeps all that reaches the process's own descriptors, whoever writes it."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    for number, end in ((1, "out"), (2, "err")):
        with (root / f"{name}.{end}").open("wb") as file:
            os.dup2(file.fileno(), number)
    try:
        code = work()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(kept[0], 1)
        os.dup2(kept[1], 2)
    (root / f"{name}.code").write_text(str(code))


def main(root: Path) -> None:
    from advcli.cli import exits
    from advcli.models import runtime

    runtime.prepare("cpu")
    build(root)
    for name, arguments in commands(root).items():
        captured(root, name, lambda arguments=arguments: exits.run(arguments))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

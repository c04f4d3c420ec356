"""The command line: whatever the options say, a refusal is two lines and exit code 2."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path

from hypothesis import strategies as st

from advcli.cli.exits import run
from advcli.errors import UsageError
from advcli.images.text import printable
from tests.fuzz.parts import Finding, Part

_NUMBERS = ("8/255", "0.03", "1e308", "1e-400", "nan", "-inf", "0", "1/0", "8", "--", "1_0", "٣")
_atoms = st.sampled_from(
    (
        *(
            *_NUMBERS,
            "pgd",
            "linf",
            "l2",
            "l0",
            "auto",
            "unit",
            "scale",
            "mean",
            "steps",
            "norm",
            "eps",
        ),
        *(
            "",
            "=",
            ":",
            ",",
            "/",
            "\x1b[31m",
            "\n",
            "\u202e",
            "\udcff",
            "x" * 3000,
            "9" * 5000,
            "%s",
        ),
        *(
            "corruption",
            "universal",
            "fmn",
            "patch",
            "cat",
            "clean",
            "class",
            "@",
            "next",
            "bgr",
            "٪",
        ),
    )
)
_SEEDS = {
    "--eps": ("8/255", "1/255,2/255", "0.03"),
    "-a": ("pgd:steps=5,norm=l2", "fmn", "corruption:kinds=snow", "square:eps=8/255", "universal"),
    "--preprocess": ("unit", "scale=255,mean=1:2:3,std=1,channels=bgr"),
    "--preset": ("audit", "autoattack:version=plus"),
    "--norm": ("linf", "l0"),
    "--targeted": ("next", "3"),
    "--fail-under": ("40%", "pgd@8/255=40", "class:cat=3", "0.5"),
    "--batch-size": ("8", "auto"),
    "--limit": ("10",),
    "--seed": ("0",),
    "--device": ("cpu", "gpu:0"),
    "-r": ("a.json", "b.html"),
    "--format": ("json",),
}


@st.composite
def _value(draw: st.DrawFn, option: str) -> str:
    text = draw(st.sampled_from(_SEEDS[option]))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(text)))
        text = text[:at] + draw(_atoms) + text[at + draw(st.integers(0, 3)) :]
    return text


_options = st.sampled_from(tuple(_SEEDS)).flatmap(lambda o: st.tuples(st.just(o), _value(o)))


def read(case: bytes, folder: Path) -> None:
    """`advcli evaluate` of a model that is not there: every option is read before it."""
    arguments = ["evaluate", str(folder / "none.h5"), str(folder / "images")]
    for option, value in json.loads(case):
        arguments += [option, value]
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run(arguments)
    lines = err.getvalue().splitlines()
    if code != 2 or out.getvalue():
        raise Finding(f"exit code {code}, printed {out.getvalue()[:200]!r}, {lines[:3]}")
    if not 1 <= len(lines) <= 2 or not all(line == printable(line) for line in lines):
        raise Finding(f"a refusal in other than two printable lines: {lines[:5]}")
    raise UsageError("refused, as it must be", "its lines are checked")


PART = Part(
    "options",
    st.lists(_options, min_size=1, max_size=3).map(lambda chosen: json.dumps(chosen).encode()),
    read,
)

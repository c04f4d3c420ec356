"""Configuration files, distorted: whatever they say, an answer, or two lines and exit code 2."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

from hypothesis import strategies as st

from advcli.cli.config_schema import CONFIGURED, keys_of
from advcli.cli.exits import run
from advcli.errors import UsageError
from advcli.images.text import printable
from tests.fuzz.parts import Finding, Part

_KEYS = (*sorted({key for name in CONFIGURED for key in keys_of(name)}), *CONFIGURED, "gates")
_WHOLE = """\
model = "m.h5"
eps = ["1/255", 0.03]
limit = 200
attack = ["pgd:steps=5,norm=l2", "corruption"]
fail-under = ["clean=90", 40, 3.5]
batch-size = "auto"
[evaluate]
preset = "autoattack:version=plus"
save-images = true
[[gates]]
scope = "linf@8/255"
fail-under = "40%"
accept = { until = 2027-03-31, reason = "ticket 123" }
"""
_GOOD = (
    *("limit = 1e2", 'eps = "8/255"', "eps = [1e-3, '1/2']", "batch-size = 8", "attack = 'fgsm'"),
    *("fail-under = 0", "save-images = true", "device = 'cpu'", "targeted = 3", 'out = "a/../b"'),
    *("gates = []", "gates = [{fail-under = 4, scope = 'class:é'}]", "preset = 'quick'"),
    'gates = [{fail-under = 4, accept = {until = 2027-03-31, reason = "\\u001b[2J"}}]',
    *("evaluate = {seed = 1, labels = 'l.csv'}", "seed = 0"),
)
_values = st.sampled_from(
    (
        *('"auto"', "'linf'", "true", "0", "200", "-1", "0.4", "1e999", "nan", "-inf"),
        *("0x" + "F" * 5000, "9" * 5000, "[]", "[[]]", "{}", "{a = 1}", '["1/255", 0.03]'),
        *("[1, true]", "2027-03-31", "2027-03-31T10:00:00Z", "10:00:00", '""', '"\\u0000"'),
        *('"\\u001b[31m"', '"\\u202e"', '"x', '"""', '"' + "x" * 3000 + '"', "[" * 3000),
        *("'1/0'", "'٣'", "'pgd:steps=many'", "'class:\\u001b=4'", "'clean=1_0'"),
        *("{until = 2027-03-31, reason = 'x'}", "[{fail-under = 4, scope = 'linf@1/0'}]"),
    )
)
_keys = st.one_of(
    st.sampled_from(_KEYS),
    st.sampled_from(
        ("epz", "fail_under", '"\\u001b[2J"', "'\\'", "a.b", "a." * 300 + "a", "", "é")
    ),
)
_lines = st.one_of(
    st.builds("{} = {}".format, _keys, _values),
    st.builds("[{}]".format, _keys),
    st.builds("[[{}]]".format, _keys),
)
_stated = st.builds(
    lambda good, rest: "\n".join([*good, *rest]),
    st.lists(st.sampled_from(_GOOD), max_size=4, unique_by=lambda line: line.split(" ")[0]),
    st.one_of(st.just([]), st.lists(_lines, max_size=2)),
)


@st.composite
def _damaged(draw: st.DrawFn) -> str:
    text = _WHOLE
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(text)))
        new = draw(
            st.one_of(_values, _lines, st.sampled_from(("\n", "\0", "=", "\x1b", ".", "\r")))
        )
        text = text[:at] + new + text[at + draw(st.integers(0, 6)) :]
    return text


_cases = st.one_of(
    _stated.map(str.encode),
    _damaged().map(str.encode),
    st.builds(lambda text, at: text[:at].encode() + b"\xff\xfe", _damaged(), st.integers(0, 300)),
)


def read(case: bytes, folder: Path) -> None:
    """`advcli config show` takes a file through all that a command does with it."""
    path = folder / "advcli.toml"
    path.write_bytes(case)
    for command in CONFIGURED:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = run(["config", "show", "--config", str(path), "--command", command])
        lines = [line for line in err.getvalue().splitlines() if not line.startswith("note: ")]
        if code not in (0, 2) or bool(out.getvalue()) != (code == 0):
            raise Finding(f"exit code {code}, printed {out.getvalue()[:200]!r}, {lines[:3]}")
        text = [*lines, *out.getvalue().splitlines()]
        if not all(line == printable(line) for line in text):
            raise Finding(f"lines that are not printable: {text[:5]}")
        if code:
            if len(lines) != 2:
                raise Finding(f"a refusal in other than two lines: {lines[:5]}")
            raise UsageError("refused", "its lines are checked")


PART = Part("config_files", _cases, read)

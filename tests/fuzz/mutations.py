"""Damage: to bytes, and to the values of a JSON tree."""

from __future__ import annotations

import copy
import json
import struct
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

Tree = Any

# --- bytes

_SIZES = (0, 1, 2**31 - 1, 2**32 - 1, 2**32 - 2, 2**63, 2**64 - 1)
_BYTE_EDITS = st.tuples(
    st.sampled_from(("set", "flip", "word", "address", "copy", "drop", "insert")),
    st.integers(0, 2**20),
    st.integers(0, 2**16) | st.sampled_from(_SIZES),
    st.integers(0, 160),
)
byte_edits = st.lists(_BYTE_EDITS, min_size=1, max_size=6)


def damaged(
    data: bytes, edits: list[tuple[str, int, int, int]], marks: tuple[bytes, ...] = ()
) -> bytes:
    """`data` after the edits; every second one strikes shortly after one of `marks`."""
    changed = bytearray(data)
    places = [place for mark in marks for place in _places(data, mark)]
    for kind, where, value, near in edits:
        if len(changed) < 24:
            break
        at = places[where // 2 % len(places)] + near if places and where % 2 else where
        at %= len(changed) - 9
        if kind == "set":
            changed[at] = value % 256
        elif kind == "flip":
            changed[at] ^= 1 << value % 8
        elif kind == "word":
            changed[at : at + 4] = struct.pack("<I", value % 2**32)
        elif kind == "address":
            inside = value if value in _SIZES else value % len(changed) & ~7
            changed[at : at + 8] = struct.pack("<Q", inside)
        elif kind == "copy":
            start = value % len(changed)
            changed[at : at + near] = changed[start : start + near]
        elif kind == "drop":
            del changed[at : at + 1 + value % 8]
        else:
            changed[at:at] = bytes([value % 256]) * (1 + near % 8)
    return bytes(changed)


def _places(data: bytes, mark: bytes) -> Iterator[int]:
    at = data.find(mark)
    while at >= 0:
        yield at
        at = data.find(mark, at + 1)


# --- trees of JSON values

HOSTILE_TEXT = (
    *("", "a\nb", "\x1b[31mred", "\u202egnp", "../../etc/passwd", "/dev/stdin", "\0", "%s{0}"),
    *("x" * 5000, "\ud800", "=cmd()", "<script>", "none", "softmax", "a/b", "lambda x: x"),
)
_NUMBERS = (
    *(0, 1, -1, 2, 3, 255, 2**31, 2**63, 2**64, 10**30, 10**400, -(2**70), 0.5, -0.0, 1e-320),
    *(1e308, float("nan"), float("inf"), float("-inf"), True, False, 1_000_000, 65_537),
)
_CLASSES = (
    *("Sequential", "Functional", "Model", "Dense", "Conv2D", "InputLayer", "Flatten", "LSTM"),
    *("Bidirectional", "TimeDistributed", "BatchNormalization", "Rescaling", "Normalization"),
    *("Concatenate", "Lambda", "StringLookup", "MyLayer", "__tensor__", "__tuple__", "slice"),
    *("__numpy__", "Policy", "DTypePolicy", "Zeros", "Reshape", "Permute", "ZeroPadding2D"),
)
_layers = st.builds(
    lambda name, inner: {"class_name": name, "config": inner},
    st.sampled_from(_CLASSES),
    st.sampled_from(({}, [], None, {"name": "x"}, {"layers": []}, {"layer": {}}, "Dense")),
)
values = st.one_of(
    st.sampled_from(_NUMBERS),
    st.sampled_from(HOSTILE_TEXT),
    st.sampled_from(_CLASSES),
    st.sampled_from((None, [], {}, [[]], [None], [[], {}], {"": None}, [[["a", 0, 0, {}]]])),
    st.sampled_from(("nested", "wide")),
    _layers,
    st.lists(st.sampled_from((None, 0, -1, 3, 2**40, 1.5, "3")), max_size=5),
)
tree_edits = st.lists(
    st.tuples(
        st.sampled_from(("put", "put", "put", "drop", "rename", "copy", "wrap", "repeat")),
        st.integers(0, 2**16),
        st.integers(0, 2**16),
        values,
    ),
    min_size=1,
    max_size=5,
)


def distorted(tree: Tree, edits: list[tuple[str, int, int, Any]]) -> Tree:
    """A copy of a JSON tree after the edits."""
    top = [copy.deepcopy(tree)]
    for kind, where, second, given in edits:
        value = copy.deepcopy(_grown(given))
        places = list(_slots(top))
        parent, key = places[where % len(places)]
        other, at = places[second % len(places)]
        if kind == "put":
            parent[key] = value
        elif kind == "copy":
            parent[key] = copy.deepcopy(other[at])
        elif kind == "wrap":
            parent[key] = [parent[key]] if second % 2 else {"class_name": value, "config": {}}
        elif kind == "drop" and parent is not top:
            del parent[key]
        elif kind == "rename" and isinstance(parent, dict):
            parent[str(given)[:40]] = parent.pop(key)
        elif kind == "repeat" and isinstance(parent, list) and parent is not top:
            parent[key:key] = [copy.deepcopy(parent[key]) for _ in range(second % 40)]
        if len(json.dumps(top)) > 200_000:
            break
    return top[0]


def _grown(value: Any) -> Any:
    """Two values too large to be drawn."""
    if value == "nested":
        deep: Any = {}
        for _ in range(300):
            deep = [deep]
        return deep
    return [{"class_name": "Dense"}] * 2000 if value == "wide" else value


def _slots(tree: Tree) -> Iterator[tuple[Any, Any]]:
    """(container, key) of every value in it."""
    pending = [tree]
    while pending:
        item = pending.pop()
        entries = item.items() if isinstance(item, dict) else enumerate(item)
        for key, value in entries:
            yield item, key
            if isinstance(value, (dict, list)):
                pending.append(value)

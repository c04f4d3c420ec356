"""Names made safe to print: a file or class name is whatever its author, or an attacker, chose."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

__all__ = ["printable"]

# Control and format characters (bidi marks among them), surrogates, private use and unassigned
# code points, line and paragraph separators.
_ESCAPED = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_ELLIPSIS = "…"


def printable(name: str, width: int | None = None) -> str:
    """`name` as one line of visible characters, at most `width` terminal columns wide.

    Control characters, escape sequences, bidi marks, line breaks and surrogates are shown
    escaped (``\\x1b``, ``\\u202e``); a byte that was no UTF-8 in a file name shows as ``\\xff``.
    What is cut to fit is cut in the middle, where a path says least, and never inside an escape.
    """
    cells = [_visible(character) for character in name]
    if width is None or sum(map(_columns, cells)) <= width:
        return "".join(cells)
    room = max(width - 1, 0)
    tail = _fitting(reversed(cells), room // 2)[::-1]
    head = _fitting(cells, room - sum(map(_columns, tail)))
    return "".join([*head, _ELLIPSIS, *tail]) if width > 0 else ""


def _visible(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # how Python carries a byte of a name that is no UTF-8
        return f"\\x{code - 0xDC00:02x}"
    if unicodedata.category(character) not in _ESCAPED:
        return character
    if code in (0x09, 0x0A, 0x0D):
        return {0x09: "\\t", 0x0A: "\\n", 0x0D: "\\r"}[code]
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def _columns(cell: str) -> int:
    """Terminal columns that one visible character, or one escape, takes."""
    if len(cell) > 1:
        return len(cell)
    if unicodedata.combining(cell):
        return 0
    return 2 if unicodedata.east_asian_width(cell) in "WF" else 1


def _fitting(cells: Iterable[str], room: int) -> list[str]:
    kept: list[str] = []
    for cell in cells:
        room -= _columns(cell)
        if room < 0:
            break
        kept.append(cell)
    return kept

"""`printable`: nothing that a name holds may move a cursor, hide itself or start a new line."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from advcli.images.text import printable

ANY_TEXT = st.text(st.characters(exclude_categories=[]))  # surrogates too


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("cat/a.jpg", "cat/a.jpg"),
        ("猫.png", "猫.png"),
        ("a\nb\r\tc", "a\\nb\\r\\tc"),
        ("\x1b[2Jx", "\\x1b[2Jx"),
        ("\x9b31m", "\\x9b31m"),
        ("gpj.\u202egnp.exe", "gpj.\\u202egnp.exe"),
        ("\u2066x\u2069\u200b", "\\u2066x\\u2069\\u200b"),
        ("a\u2028b", "a\\u2028b"),
        ("\udcff.png", "\\xff.png"),
        ("\ud800", "\\ud800"),
        ("\U000e0041", "\\U000e0041"),
    ],
)
def test_escapes(name: str, shown: str) -> None:
    assert printable(name) == shown


@given(ANY_TEXT)
def test_is_one_visible_encodable_line(name: str) -> None:
    shown = printable(name)
    shown.encode("utf-8")
    assert len(shown.splitlines()) <= 1
    assert not any(unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") for c in shown)


@given(ANY_TEXT, st.integers(0, 30))
def test_fits_its_width(name: str, width: int) -> None:
    shown = printable(name, width)
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in shown)
    marks = sum(unicodedata.combining(c) > 0 for c in shown)
    assert len(shown) + wide - marks <= width + sum(
        1 for c in shown if unicodedata.combining(c) and unicodedata.east_asian_width(c) in "WF"
    )


def test_cuts_the_middle_and_never_an_escape() -> None:
    assert printable("abcdefghij", 7) == "abc…hij"
    assert printable("\n\n\n\n\n\n", 6) == "\\n…\\n"
    assert printable("abcdef", 6) == "abcdef"

"""The file beside a model: what is written is read, and what is not understood is refused."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

from advcli.errors import UsageError
from advcli.models.preprocessing import parse
from advcli.models.sidecar import read_sidecar, sidecar_path, write_sidecar


@pytest.fixture
def header(tmp_path):
    """As much of a header as a sidecar looks at."""
    return SimpleNamespace(path=tmp_path / "m.h5", sha256="ab" * 32)


@pytest.mark.parametrize(
    "flag",
    [
        "raw",
        "caffe",
        "scale=0.00392156862745098,mean=0.1:0.2:0.3,channels=bgr",
        "scale=255,mean=103.93900001,std=57.12",
    ],
)
def test_what_is_written_is_read(header, flag):
    stated = parse(flag)
    assert write_sidecar(header, stated) == sidecar_path(header.path)
    read = read_sidecar(header, 3)
    assert read is not None
    assert read.formula == stated.formula
    assert read.evidence == "m.h5.advcli.toml beside the model"
    assert [p.name for p in header.path.parent.iterdir()] == ["m.h5.advcli.toml"]


def test_no_file_is_no_answer(header):
    assert read_sidecar(header, 3) is None


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"preprocess = ", "is no TOML"),
        (b"\xff\xfe", "is no TOML"),
        (b"# " + b"x" * 2**16, "too long"),
        (b'preproces = "raw"', "unknown key 'preproces'"),
        (b"preprocess = 3", "has no preprocess"),
        (b'preprocess = "auto"', "has no preprocess"),
        (b'sha256 = "ab"', "has no preprocess"),
        (b'preprocess = "raw"\nsha256 = "00"', "another model file"),
        (b'preprocess = "torhc"', "no preprocessing is called"),
        (b'preprocess = "mean=1:2"', "mean has 2 values"),
    ],
)
def test_what_is_not_understood_is_refused(header, content, reason):
    sidecar_path(header.path).write_bytes(content)
    with pytest.raises(UsageError, match=reason) as refused:
        read_sidecar(header, 3)
    assert "m.h5.advcli.toml" in refused.value.message


def test_a_place_that_cannot_be_written(header, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(UsageError, match="cannot be written"):
        write_sidecar(header, parse("raw"))
    assert list(header.path.parent.iterdir()) == []


def test_links_and_pipes_in_its_place(header, tmp_path):
    """Writing replaces a link and leaves what it led to; nobody waits for a pipe."""
    precious = tmp_path / "precious"
    precious.write_text("keep")
    sidecar_path(header.path).symlink_to(precious)
    write_sidecar(header, parse("raw"))
    assert precious.read_text() == "keep"
    assert not sidecar_path(header.path).is_symlink()
    sidecar_path(header.path).unlink()
    os.mkfifo(sidecar_path(header.path))
    with pytest.raises(UsageError, match="is no file"):
        read_sidecar(header, 3)


def test_keys_of_many_parts_take_no_time(header):
    sidecar_path(header.path).write_bytes(b".".join([b"a"] * 30_000) + b" = 1")
    with pytest.raises(UsageError, match="too long"):
        read_sidecar(header, 3)

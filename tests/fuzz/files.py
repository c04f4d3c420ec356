"""Model files: HDF5 and `.keras` archives, their bytes damaged and their parts distorted."""

from __future__ import annotations

import io
import json
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from advcli.models.header import read_header, unpack_weights
from advcli.models.normalise import normalise
from advcli.models.quarantine import clean_copy
from advcli.models.safety import scan
from tests.fuzz.configs import ERAS
from tests.fuzz.mutations import byte_edits, damaged, distorted, tree_edits
from tests.fuzz.parts import Part

HDF5_MARKS = tuple(
    b"TREE HEAP SNOD OHDR FRHP FHDB FHIB BTHD BTLF BTIN GCOL OCHK FSHD FAHD EAHD".split()
)
"""How the structures of an HDF5 file begin."""

_ZIP_MARKS = (b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06")


@cache
def hdf5_files() -> tuple[bytes, ...]:
    """Small models, old and new in format, with what Keras never writes beside what it does."""
    return tuple(_hdf5(version, kind) for version in ("earliest", "latest") for kind in range(4))


def _hdf5(version: str, kind: int) -> bytes:
    import h5py
    import numpy as np

    data = np.arange(64, dtype="f4")
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", libver=version, track_order=kind == 1) as file:
        file.attrs["model_config"] = json.dumps(ERAS[kind % len(ERAS)])
        file.attrs["keras_version"] = "2.3.1"
        file.attrs["backend"] = np.bytes_("tensorflow")
        weights = file.create_group("model_weights", track_order=kind == 1)
        weights.attrs["layer_names"] = np.array([b"dense", b"conv"])
        group = weights.create_group("dense")
        group["kernel:0"] = data.reshape(16, 4)
        if kind == 0:
            group["bias:0"] = np.zeros(4, "f4")
            file["optimizer_weights/iter:0"] = np.int64(7)
        elif kind == 1:
            for number in range(20):
                group.attrs[f"a{number}"] = "x" * number
                group[f"w{number}"] = np.zeros(1, "f4")
        elif kind == 2:
            chunks: dict[str, Any] = {"data": data, "chunks": (16,)}
            group.create_dataset("gzip", **chunks, compression="gzip", shuffle=True)
            group.create_dataset("lzf", **chunks, compression="lzf", fletcher32=True)
            group.create_dataset("growing", **chunks, maxshape=(None,))
            group.create_dataset("square", data=data.reshape(8, 8), chunks=(2, 2))
            group.create_dataset("whole", data=data.astype("i4"), chunks=(16,), scaleoffset=0)
        else:
            group["again"] = group["kernel:0"]
            group["soft"] = h5py.SoftLink("/model_weights")
            group["text"] = ["a", "bc"]
            group["pair"] = np.zeros(2, [("a", "i4"), ("b", "f8", (2,))])
            group["type"] = np.dtype("f8")
            group.attrs["pairs"] = group["pair"][()]
            group.attrs["here"] = group["kernel:0"].ref
    return buffer.getvalue()


@cache
def archives() -> tuple[bytes, ...]:
    """`.keras` files, stored and deflated."""
    return tuple(archive(json.dumps(ERAS[4]).encode(), how) for how in (0, zipfile.ZIP_DEFLATED))


def archive(config: bytes, how: int = 0) -> bytes:
    """A `.keras` file of one configuration."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", how) as written:
        written.writestr("metadata.json", '{"keras_version": "3.11.0"}')
        written.writestr("config.json", config)
        written.writestr("model.weights.h5", hdf5_files()[0])
    return buffer.getvalue()


_others = st.sampled_from(
    (
        *(
            b"",
            b"PK\x03\x04",
            b"\x89HDF\r\n\x1a\n",
            b"TFL3",
            b"\x80\x04",
            b"\x08\x07\x12",
            b"<html>",
        ),
        *(
            b"version https://git-lfs",
            b"\x1f\x8b",
            b"\x93NUMPY",
            b'{"class_name"',
            b"\xef\xbb\xbf{",
        ),
    )
)
damaged_hdf5 = st.builds(
    lambda n, edits: damaged(hdf5_files()[n], edits, HDF5_MARKS), st.integers(0, 7), byte_edits
)
_damaged_archives = st.builds(
    lambda n, edits: damaged(archives()[n], edits, _ZIP_MARKS), st.integers(0, 1), byte_edits
)
_distorted_archives = st.builds(
    lambda edits, how: archive(json.dumps(distorted(ERAS[4], edits)).encode(), how),
    tree_edits,
    st.sampled_from((0, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)),
)
_cut = st.builds(lambda n, at: hdf5_files()[n][: at % 9000], st.integers(0, 7), st.integers(0))
_strangers = st.builds(bytes.__add__, _others, st.binary(max_size=200))


def read(case: bytes, folder: Path) -> None:
    """Header, scan and the clean copy that Keras would be given."""
    path = folder / "model.h5"
    path.write_bytes(case)
    header = read_header(path)
    scan(header)
    normalise(header.config)
    source = path
    if header.kind == "keras":
        source = folder / "weights.h5"
        with zipfile.ZipFile(path) as opened:
            unpack_weights(path, opened, source)
    size = sum(item.declared_bytes for item in header.stored)
    clean_copy(source, folder / "clean.h5", "{}", size, path)


PART = Part(
    "model files",
    st.one_of(*[damaged_hdf5] * 4, _damaged_archives, _distorted_archives, _cut, _strangers),
    read,
)

"""--batch-size auto: what the model and the machine decide, and what memory allows."""

from __future__ import annotations

import pytest

from advcli.engine import memory
from advcli.engine import run as engine
from advcli.engine.run import auto_batch_size, auto_lanes

GIB = 2**30
SMALL, LARGE = (28, 28, 1), (224, 224, 3)


@pytest.fixture
def machine(monkeypatch):
    """Memory that is installed, and left, in bytes."""
    has = {"installed": 64 * GIB, "free": 60 * GIB, "threads": 1, "cores": 1}
    monkeypatch.setattr(engine, "installed", lambda device="cpu": has["installed"])
    monkeypatch.setattr(engine, "free", lambda device="cpu": has["free"])
    monkeypatch.setattr(engine, "side_by_side", lambda: has["threads"])
    monkeypatch.setattr(engine, "cores", lambda: has["cores"])
    return has


def test_the_knee_lies_at_more_rows_the_less_a_row_computes(machine):
    sizes = [auto_batch_size(SMALL, "cpu", 2**20 * mib) for mib in (1, 2, 4, 8, 16, 64, 200)]
    assert sizes == sorted(sizes, reverse=True)
    assert (sizes[0], sizes[-1]) == (128, 8)
    assert all(rows % 8 == 0 for rows in sizes)
    assert auto_batch_size(SMALL, "gpu:0", 2**20) > 128
    machine.update(threads=2, cores=2)
    assert auto_batch_size(SMALL, "cpu", 4 * 2**20) == sizes[2] // 2
    machine.update(threads=4, cores=16)
    assert auto_batch_size(SMALL, "cpu", 4 * 2**20) == sizes[2]


@pytest.mark.parametrize("gib", [0.5, 1, 2, 4, 8, 64])
@pytest.mark.parametrize("mib", [1, 30, 200, 1000])
def test_half_of_the_memory_is_never_exceeded(machine, gib, mib):
    machine.update(installed=int(gib * GIB), free=int(0.9 * gib * GIB))
    rows = auto_batch_size(LARGE, "cpu", mib * 2**20)
    lanes = auto_lanes(rows, mib * 2**20)
    assert rows == 1 or rows * mib * 2**20 <= gib * GIB / 2
    assert lanes == 1 or lanes * rows * mib * 2**20 <= 0.45 * gib * GIB
    assert rows == 1 or rows % 8 == 0


def test_what_else_runs_decides_the_lanes_and_only_where_it_is_tight_the_batch(machine):
    """The batch decides an image's last bits: two runs on one machine are to choose alike."""
    found = set()
    for free in (60, 20, 4, 2):
        machine["free"] = free * GIB
        found.add(auto_batch_size(LARGE, "cpu", 200 * 2**20))
    assert found == {8}
    machine["free"] = GIB
    assert auto_batch_size(LARGE, "cpu", 200 * 2**20) == 1


def test_lanes_fit_into_what_is_free(machine):
    machine["threads"] = 16
    assert auto_lanes(8, GIB) == 3
    machine["free"] = 8 * GIB
    assert auto_lanes(8, GIB) == 1
    assert auto_lanes(8, 2**20) == 16


def test_a_container_has_no_more_than_its_limit(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "_CGROUPS", tmp_path)
    whole = memory.installed()
    assert whole > GIB / 2
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.installed() == whole
    (tmp_path / "memory.max").write_text("104857600\n")
    (tmp_path / "memory.current").write_text("62914560\n")
    (tmp_path / "memory.stat").write_text("anon 1\ninactive_file 20971520\nactive_file 1\n")
    assert memory.installed() == 104857600
    assert memory.free() == 104857600 - 62914560 + 20971520

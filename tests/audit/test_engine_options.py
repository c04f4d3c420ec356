"""--compile and --batch-size in a run: what is recorded, what a resumed run goes on with."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from advcli.audit.directory import RunDirectory
from advcli.audit.journal import read_lines
from advcli.audit.plan import AuditConfig
from advcli.audit.replay import replayed
from advcli.audit.run import execute
from advcli.audit.verify import verify
from advcli.engine.slots import Slots
from advcli.errors import RunError
from tests.models.support import keras, saved

from .support import SAMPLES, Watcher


def config(**more: Any) -> AuditConfig:
    settings = {
        "command": "evaluate",
        "model": str(SAMPLES / "robust.h5"),
        "images": str(SAMPLES / "images"),
        "attacks": ("noise:repeats=1",),
        "eps": (0.3,),
        "preprocess": "unit",
        "limit": 40,
        "batch_size": 16,
    }
    return AuditConfig.model_validate(settings | more)


def note(found: dict[str, Any], check: str) -> dict[str, str]:
    (note,) = (f for f in found["soundness"]["findings"] if f["check"] == check)
    return note


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How many rows fit into it, and how many ticks go by before that is so."""
    room = {"rows": 16, "ticks": 0}
    honest = Slots.tick

    def tick(self: Slots, carry: Any, orders: Any, limit: int, *more: int) -> Any:
        if limit and len(orders.refill) > room["rows"]:
            room["ticks"] -= 1
            if room["ticks"] < 0:
                raise MemoryError("no room")
        return honest(self, carry, orders, limit, *more)

    monkeypatch.setattr(Slots, "tick", tick)
    return room


def test_a_run_that_runs_out_of_memory_says_so_and_is_resumed_as_it_went_on(
    tmp_path: Path, memory: dict[str, int]
) -> None:
    root, watcher = tmp_path / "run", Watcher()
    memory.update(rows=8, ticks=1)
    found = execute(config(), watcher, out=root).summary
    answered = [line["image"] for line in read_lines(root / "results.jsonl")][40:]
    assert len(answered) == len(set(answered)) == found["attacks"][0]["attempted"]
    assert note(found, "memory")["verdict"] == "note"
    assert "8 images are computed at once, not 16" in note(found, "memory")["detail"]
    assert note(found, "memory")["detail"] in watcher.notes
    assert found["soundness"]["verdict"] == "sound"
    assert found["engine"]["batch_size"] == 8
    assert json.loads((root / "run.json").read_text())["engine"]["batch_size"] == 8
    assert json.loads((root / "run.json").read_text())["shrunk_from"] == [16]
    # the same command once more, with the batch size that it began with
    given = frozenset({"batch_size", "attacks", "eps"})
    more = config(eps=(0.4,))
    resumed = execute(more, Watcher(), out=root, resume=True, given=given).summary
    assert [row["eps"] for row in resumed["attacks"]] == [0.3, 0.4]
    assert resumed["engine"]["batch_size"] == 8
    assert note(resumed, "memory") == note(found, "memory")
    assert RunDirectory(root).read_run()["shrunk_from"] == [16]
    other = config(batch_size=32)
    with pytest.raises(RunError, match="batch_size is 8 there, 32 now"):
        execute(other, Watcher(), out=root, resume=True, given=frozenset({"batch_size"}))


def test_a_way_of_compiling_that_is_asked_for_is_kept_when_the_run_goes_on(tmp_path: Path) -> None:
    root = tmp_path / "run"
    # without pooling, whose gradient XLA lacks where kernels have to be deterministic
    k = keras()
    layers = [k.Input((28, 28, 1)), k.layers.Flatten(), k.layers.Dense(10, "softmax")]
    saved(k.Sequential(layers), tmp_path / "dense.h5")
    dense = {"model": str(tmp_path / "dense.h5"), "allow_chance": True}
    found = execute(config(**dense, compile="xla", limit=2), Watcher(), out=root).summary
    assert found["engine"]["compiled"] == "xla"
    assert note(found, "compile") == {
        "check": "compile",
        "verdict": "note",
        "detail": "XLA: --compile xla",
    }
    given = frozenset({"limit"})
    longer = config(**dense, limit=4)
    resumed = execute(longer, Watcher(), out=root, resume=True, given=given).summary
    assert resumed["engine"]["compiled"] == "xla"
    with pytest.raises(RunError, match="--compile is xla there, graph now"):
        execute(
            config(**dense, compile="graph"),
            Watcher(),
            out=root,
            resume=True,
            given=frozenset({"compile"}),
        )


def test_by_itself_a_convolutional_model_is_compiled_as_a_graph() -> None:
    found = execute(config(limit=2), Watcher()).summary
    assert found["engine"]["compiled"] == "graph"
    assert note(found, "compile")["verdict"] == "ok"


def test_a_replay_knows_every_batch_size_that_a_run_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of an attack whose answer depends on it, one was given with 16 rows, the others with 8."""
    root = tmp_path / "run"
    execute(config(batch_size=8, limit=6), Watcher(), out=root)
    directory = RunDirectory(root)
    lines = [*read_lines(directory.journal_file)]
    attacked = [line for line in lines if line["attack"] != "clean"]
    for line in attacked:
        line["forwards"] += 16 if line is attacked[0] else 8
    directory.journal_file.write_text("".join(json.dumps(line) + "\n" for line in lines))

    def dependent(*args: Any) -> Iterator[Any]:
        for phase, line, outcome in replayed(*args):
            yield phase, line, replace(outcome, forwards=outcome.forwards + args[-1])

    monkeypatch.setattr("advcli.audit.verify.replayed", dependent)

    def unlike() -> list[str]:
        found = verify(root, replay=6)
        assert found.replayed == len(attacked)
        return [str(one["image"]) for one in found.mismatches if "again" in str(one["detail"])]

    assert unlike() == [attacked[0]["image"]]
    directory.write_run(directory.read_run() | {"shrunk_from": [16]})
    assert unlike() == []


def test_memory_that_runs_out_in_the_gradient_check_halves_the_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from advcli.models import gradient

    honest = gradient.check_gradient

    def greedy(classifier: Any, pixels: Any, labels: Any, rows: int, path: Any) -> Any:
        if rows > 8:
            raise MemoryError("no room")
        return honest(classifier, pixels, labels, rows, path)

    monkeypatch.setattr(gradient, "check_gradient", greedy)
    found = execute(config(limit=2, batch_size=32), Watcher()).summary
    assert found["engine"]["batch_size"] == 8
    assert "memory does not suffice for 32 images" in note(found, "memory")["detail"]

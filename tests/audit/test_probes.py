"""`--soundness full` on a linear model, where what a budget can break is known in closed form."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from advcli.audit.journal import finite
from advcli.audit.ledger import Ledger
from advcli.audit.plan import AuditConfig
from advcli.audit.probed import findings_of, judged, key_of, merged_probes
from advcli.audit.probes import planned, probe
from advcli.audit.run import execute
from advcli.audit.verify import verify
from advcli.engine.run import Engine
from advcli.images.folder import ImageRef
from advcli.images.stream import LoadedImage, pixel_hash
from tests.support.linear import LinearModel, exact_distance, images

from ..reports.standards import check_summary
from .support import SAMPLES, Watcher, answer, clean, phase, run_of

MODEL = LinearModel((6, 6, 1), 4, seed=3)
EPS = 6 / 255
WEAK = "pgd:rel-step=0.02,schedule=constant,random-start=false,scouts=0,steps=1"


class Stream:
    """Stands in for an ImageStream."""

    def __init__(self, pixels: np.ndarray) -> None:
        self.images = [
            LoadedImage(ImageRef(f"{i}.png", 0), image, pixel_hash(image), None, None)
            for i, image in enumerate(pixels)
        ]

    def subset(self, paths: Collection[str]) -> Iterator[LoadedImage]:
        return (image for image in self.images if image.ref.path in paths)


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(MODEL, batch_size=32, pixels="uint8", seed=0)


def withstood(pixels: np.ndarray, spec: str) -> tuple[Stream, Ledger]:
    """A journal that says that `spec` broke none of these images."""
    stream = Stream(pixels)
    labels = MODEL.confirm(pixels / np.float32(255)).prediction
    lines = [
        clean(image.ref.path, int(label), int(label), sha256=image.sha256)
        for image, label in zip(stream.images, labels, strict=True)
    ]
    lines += [
        answer(line["image"], line["label"], success=False, attack=spec, eps=EPS) for line in lines
    ]
    return stream, Ledger.read(lines)


def sorted_by_distance() -> tuple[np.ndarray, np.ndarray]:
    """(images that the budget breaks easily, images that it cannot break)"""
    pixels = images(MODEL.input_shape, 160, low=40, high=216)
    far = np.array([exact_distance(MODEL, image, "linf") for image in pixels])
    return pixels[far < 0.8 * EPS][:20], pixels[far > 1.05 * EPS][:20]


def test_what_a_weak_attack_left_is_suspect_and_what_nothing_can_break_is_not(
    engine: Engine,
) -> None:
    """One engine, one set of probes: the images alone decide."""
    breakable, robust = sorted_by_distance()
    phases = [phase(WEAK, eps=(EPS,))]
    verdicts = []
    for pixels in (breakable, robust):
        stream, ledger = withstood(pixels, phases[0].spec)
        found = judged(probe(engine, stream, ledger, phases, Watcher()))  # type: ignore[arg-type]
        verdicts.append({finding["check"]: finding["verdict"] for finding in found})
        assert all(
            "16 images that withstood everything at linf 6/255" in finding["detail"]
            for finding in found
        )
    weak, sound = verdicts
    assert weak["scale-free loss"] == weak["no gradient"] == "suspect"
    assert sound == {
        "more steps": "ok",
        "largest budget": "suspect",  # one step of 0.02 reaches nothing: the attack does not work
        "no gradient": "ok",
        "scale-free loss": "ok",
        "8-bit grid": "ok",
    }


def test_nothing_is_asked_where_nothing_stands(engine: Engine) -> None:
    stream, _ = withstood(images(MODEL.input_shape, 3), "pgd")
    lines = [clean(f"{i}.png", 0, 0, sha256=str(i)) for i in range(3)]
    lines += [answer(f"{i}.png", 1, success=True, eps=EPS) for i in range(3)]
    ledger = Ledger.read(lines)
    assert probe(engine, stream, ledger, [phase(eps=(EPS,))], Watcher()) == []  # type: ignore[arg-type]


def test_the_key_changes_with_whatever_the_findings_depend_on() -> None:
    _, few = withstood(images(MODEL.input_shape, 3), "pgd")
    _, more = withstood(images(MODEL.input_shape, 4), "pgd")
    phases = [phase()]
    assert key_of(few, phases) == key_of(few, phases)
    assert key_of(few, phases) != key_of(more, phases)
    assert key_of(few, phases) != key_of(few, [phase(eps=(0.2,))])


# --- what is kept of them

ASKED = {
    "check": "no gradient",
    "norm": "linf",
    "eps": EPS,
    "what": "square",
    "advice": "look again",
    "expected": False,
    "wrong": 0,
    "total": 16,
}


def small(images: range, **asked: Any) -> tuple[dict[str, Any], Ledger]:
    """A run of some images that was probed, and its answers."""
    ledger = Ledger.read([clean(f"{i}.png", 0, 0) for i in images])
    run = run_of([phase()], soundness="full", shard="1/2", fail_under=("0",))
    run["probes"] = {"key": key_of(ledger, [phase()]), "asked": [ASKED | asked], "findings": []}
    return run, ledger


@pytest.mark.parametrize(("wrong", "before"), [(0, "ok"), (1, "note"), (9, "suspect")])
def test_what_was_asked_before_a_run_was_extended_vouches_for_nothing(
    wrong: int, before: str
) -> None:
    run, ledger = small(range(20), wrong=wrong)
    (found,) = findings_of(run, ledger, [phase()])
    assert found["verdict"] == before
    more = Ledger.read([clean(f"{i}.png", 0, 0) for i in range(21)])
    for answers, phases in ((ledger, [phase(), phase("fgsm")]), (more, [phase()])):
        (old,) = findings_of(run, answers, phases)
        assert old["verdict"] == ("note" if before == "ok" else before)
        assert old["detail"] == (
            f"{found['detail']} (asked before other attacks or images were added: --resume "
            "--soundness full asks again)"
        )


def test_where_time_was_short_it_is_said_that_nothing_was_asked() -> None:
    run, ledger = small(range(20))
    run["images"]["time_budget"] = {"seconds": 60.0, "images": 20, "of": 30}
    assert [one["check"] for one in findings_of(run, ledger, [phase()])] == ["no gradient"]
    del run["probes"]
    assert [one["check"] for one in findings_of(run, ledger, [phase()])] == ["probes"]
    run["config"]["soundness"] = "fast"
    assert findings_of(run, ledger, [phase()]) == []


def test_shards_are_judged_by_their_sums() -> None:
    """Two of sixteen are no finding in one shard, and six of 48 are one in three."""
    shards = [small(range(20 * n, 20 * n + 20), wrong=2) for n in range(3)]
    whole = Ledger.read([clean(f"{i}.png", 0, 0) for i in range(60)])
    assert {judged(run["probes"]["asked"])[0]["verdict"] for run, _ in shards} == {"note"}
    merged = run_of([phase()])
    merged["probes"] = merged_probes(shards, whole, [phase()])
    (found,) = findings_of(merged, whole, [phase()])
    assert found["verdict"] == "suspect"
    assert found["detail"].startswith("square fools 6 of 48 images")
    # another budget is another question
    shards[1][0]["probes"]["asked"][0]["eps"] = 2 * EPS
    merged["probes"] = merged_probes(shards, whole, [phase()])
    assert [one["detail"].split(" images")[0] for one in findings_of(merged, whole, [phase()])] == [
        "square fools 4 of 32",
        "square fools 2 of 16",
    ]
    # one shard was extended, or not asked: nothing holds for the whole
    shards[2][0]["probes"] |= {"key": "other"}
    for stale in (shards[2][0]["probes"] | {"key": "other"}, {}):
        shards[2][0]["probes"] = stale
        merged["probes"] = merged_probes(shards, whole, [phase()])
        assert all("asked before" in one["detail"] for one in findings_of(merged, whole, [phase()]))
    assert merged_probes([(run_of([phase()]), ledger) for _, ledger in shards], whole, []) == {}


def test_a_plan_bounds_what_the_probes_cost(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, robust = sorted_by_distance()
    stream, ledger = withstood(robust, WEAK)
    phases = [phase(WEAK, eps=(EPS / 2, EPS))]
    spent = Counter[str]()
    run = Engine.run

    def counted(*args: Any, **named: Any) -> Iterator[Any]:
        for outcome in run(*args, **named):
            spent.update(forwards=outcome.forwards, gradients=outcome.gradients)
            yield outcome

    monkeypatch.setattr(Engine, "run", counted)
    asked = probe(engine, stream, ledger, phases, Watcher())  # type: ignore[arg-type]
    ((norm, eps, sample, (forwards, gradients)),) = planned(phases, len(robust), engine)
    assert (norm, eps) == ("linf", EPS)
    assert sample == max(one["total"] for one in asked) == 16
    assert forwards / 2 < spent["forwards"] <= forwards
    assert gradients / 2 < spent["gradients"] <= gradients


def test_a_run_that_goes_on_asks_again_or_says_that_it_did_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr("advcli.audit.phases.probe", lambda *args: asked.append(args) or [ASKED])
    settings = {
        "command": "evaluate",
        "model": str(SAMPLES / "robust.h5"),
        "images": str(SAMPLES / "images"),
        "attacks": ("fgsm",),
        "preprocess": "unit",
        "batch_size": 8,
        "limit": 4,
    }
    details = []
    for eps, level in ((0.1, "full"), (0.05, "fast"), (0.05, "full")):
        config = AuditConfig.model_validate(settings | {"eps": (eps,), "soundness": level})
        given = frozenset({"attacks", "eps", "soundness"})
        done = execute(config, Watcher(), out=tmp_path / "run", resume=True, given=given).summary
        check_summary(finite(done))
        details += [
            x["detail"] for x in done["soundness"]["findings"] if x["check"] == "no gradient"
        ]
    assert len(asked) == 2
    first, extended, again = details
    assert first == again == judged([ASKED])[0]["detail"]
    assert extended.startswith(f"{first} (asked before other attacks")
    assert verify(tmp_path / "run", replay=2).mismatches == []

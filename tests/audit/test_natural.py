"""Natural threats in whole audits: every image, no cascade, a section of their own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from advcli.audit.directory import RunDirectory
from advcli.audit.gates import judge, parse_gate
from advcli.audit.journal import read_lines
from advcli.audit.ledger import Ledger
from advcli.audit.natural import NaturalPhase, draft_natural, natural_means, natural_rows
from advcli.audit.plan import AuditConfig, draft_phases
from advcli.audit.run import execute
from advcli.audit.summary import summarise
from advcli.audit.verify import verify
from advcli.errors import UsageError
from advcli.reports import files, terminal
from advcli.threats.corruptions import BENCHMARK, KINDS

from ..reports.standards import check_summary
from .support import SAMPLES, Watcher, answer, clean, phase, run_of

THREATS = ("corruption:kinds=snow+gaussian_noise", "contrast", "spatial:rotations=3,shifts=1")


def config(**more: Any) -> AuditConfig:
    settings = {
        "command": "attack",
        "model": str(SAMPLES / "robust.h5"),
        "images": str(SAMPLES / "images"),
        "attacks": ("fgsm", *THREATS),
        "preprocess": "unit",
        "limit": 20,
        "batch_size": 16,
    }
    return AuditConfig.model_validate(settings | more)


def lines_of(root: Path) -> list[dict[str, Any]]:
    return [line for line in read_lines(root / "results.jsonl") if "kind" in line]


def natural_line(image: str, kind: str, severity: int | None, **more: Any) -> dict[str, Any]:
    line = answer(image, 0, success=False, attack="corruption", distance=None, norm=None, eps=None)
    return line | {"kind": kind, "severity": severity, "found": None} | more


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    root = tmp_path_factory.mktemp("natural") / "run"
    summary = execute(config(), Watcher(), out=root).summary
    check_summary(summary)
    return root, summary


def test_every_image_is_asked_everything(whole: tuple[Path, dict[str, Any]]) -> None:
    root, summary = whole
    lines = lines_of(root)
    assert len(lines) == 20 * (2 * 5 + 1 + 1)
    assert all(line["norm"] is None and line["eps"] is None for line in lines)
    assert len(summary["natural"]) == 12
    assert [mean["constants"] for mean in summary["natural_means"]] == ["cifar"]
    for row in summary["natural"]:
        own = [
            line
            for line in lines
            if (line["attack"], line["kind"], line["severity"])
            == (row["attack"], row["kind"], row["severity"])
        ]
        assert row["total"] == len(own) == 20
        assert row["correct"] == sum(not line["success"] for line in own)
        assert row["accuracy"] == row["correct"] / 20
        assert row["ci95"][0] <= row["accuracy"] <= row["ci95"][1]
        assert row["forwards"] == sum(line["forwards"] for line in own)
    assert {row["attack"] for row in summary["attacks"]} == {"fgsm"}
    assert len(summary["worst_case"]) == 1
    assert set(summary["worst_case"][0]["broken_by"]) == {"fgsm"}


def test_files_show_what_the_table_says(whole: tuple[Path, dict[str, Any]]) -> None:
    import keras

    root, summary = whole
    model = keras.models.load_model(SAMPLES / "robust.h5", compile=False)
    labels = {
        line["image"]: line["label"]
        for line in read_lines(root / "results.jsonl")
        if line["attack"] == "clean"
    }
    lines = lines_of(root)
    pixels = np.stack([np.array(Image.open(root / line["file"])) for line in lines])
    guesses = model.predict(pixels[..., None] / np.float32(255), verbose=0).argmax(axis=1)
    fooled = [guess != labels[line["image"]] for guess, line in zip(guesses, lines, strict=True)]
    assert fooled == [line["success"] for line in lines]
    assert any(fooled)
    folder = "images/corruption_kinds-snow+gaussian_noise/snow-3/"
    assert sum(line["file"].startswith(folder) for line in lines) == 20
    assert sum(line["file"].startswith("images/contrast/contrast/") for line in lines) == 20
    assert summary["natural"][0]["kind"] == "gaussian_noise"


def test_a_run_verifies_and_replays(whole: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    import shutil

    found = verify(whole[0], replay=3)
    assert found.mismatches == []
    assert found.replayed >= 3 * 12
    copy = tmp_path / "run"
    shutil.copytree(whole[0], copy)
    file = copy / next(line["file"] for line in lines_of(copy) if line["kind"] == "snow")
    spoiled = np.array(Image.open(file))
    spoiled[0, 0] ^= 255
    Image.fromarray(spoiled).save(file)
    assert any(entry["file"] for entry in verify(copy, replay=3).mismatches)


@pytest.mark.parametrize("share", [0.35, 0.8])
def test_a_run_goes_on_where_it_was_stopped(
    whole: tuple[Path, dict[str, Any]], tmp_path: Path, share: float
) -> None:
    root, summary = whole
    directory = RunDirectory(tmp_path / "run")
    directory.root.mkdir()
    stored = RunDirectory(root).read_run()
    directory.write_run(stored | {"timings": {}})
    journal = (root / "results.jsonl").read_bytes()
    directory.journal_file.write_bytes(journal[: int(share * len(journal))])
    again = execute(config(), Watcher(), out=directory.root, resume=True).summary
    for key in ("natural", "natural_means", "worst_case", "clean"):
        assert json.dumps(again[key]) == json.dumps(summary[key])
    assert len(lines_of(directory.root)) == len(lines_of(root))


def test_threats_may_be_added_to_a_run(tmp_path: Path) -> None:
    first = config(command="evaluate", attacks=("contrast:steps=10",), limit=6)
    execute(first, Watcher(), out=tmp_path / "run")
    more = config(command="evaluate", attacks=("blur:steps=5",), limit=6)
    given = frozenset({"attacks"})
    summary = execute(more, Watcher(), out=tmp_path / "run", resume=True, given=given).summary
    assert [row["attack"] for row in summary["natural"]] == ["contrast:steps=10", "blur:steps=5"]
    assert summary["attacks"] == []
    assert summary["worst_case"] == []
    assert not list((tmp_path / "run").rglob("*.png"))


def test_the_preset_is_no_cascade_and_has_no_norm() -> None:
    asked = config(attacks=(), preset="natural", command="evaluate")
    assert draft_phases(asked) == ()
    assert [p.attack.name for p in draft_natural(asked)] == ["corruption", "spatial"]
    with pytest.raises(UsageError):
        draft_phases(config(attacks=(), preset="natural", norm="l2"))
    with pytest.raises(UsageError, match="say nothing about natural threats"):
        draft_phases(config(attacks=(), preset="natural", eps=(0.1,)))
    with pytest.raises(UsageError):
        draft_phases(config(attacks=("corruption",), eps=(0.1,)))
    with pytest.raises(UsageError):
        draft_natural(config(attacks=("corruption",), targeted="3"))


# --- figures by hand ---------------------------------------------------------------------------


def by_hand(kinds: tuple[str, ...], wrong: set[tuple[str, int, str]]) -> dict[str, Any]:
    """Four images, all severities; `wrong`: (kind, severity, image)."""
    lines = [clean(str(i), 0, int(i == 3)) for i in range(4)]
    lines += [
        natural_line(
            str(i),
            kind,
            severity,
            forwards=1,
            gradients=0,
            success=(kind, severity, str(i)) in wrong,
        )
        for kind in kinds
        for severity in range(1, 6)
        for i in range(4)
    ]
    run = run_of([]) | {
        "natural": [{"attack": f"corruption:kinds={'+'.join(kinds)}", "options": {}}]
    }
    spec = NaturalPhase.from_dict(run["natural"][0]).spec
    return summarise(
        run, Ledger.read(line | {"attack": spec} if "kind" in line else line for line in lines)
    )


def test_means_are_over_severities_then_kinds() -> None:
    wrong = {("snow", severity, str(i)) for severity in (4, 5) for i in range(4)}
    wrong |= {("fog", 5, "0")}
    summary = by_hand(("snow", "fog"), wrong)
    (mean,) = summary["natural_means"]
    assert mean["kinds"] == pytest.approx({"snow": 0.6, "fog": 0.95})
    assert mean["accuracy"] == pytest.approx(0.775)
    assert mean["error"] == pytest.approx(0.225)
    for end in mean["ci95"]:  # Wilson's interval: where the mean is 1.96 deviations away
        assert (0.775 - end) ** 2 == pytest.approx(1.959964**2 * end * (1 - end) / 4, rel=1e-4)
    assert mean["severities"]["5"] == pytest.approx(0.375)
    # the image that is wrong unperturbed counts as right where the corrupted one is
    assert summary["natural"][0]["total"] == 4


def test_the_four_extra_kinds_do_not_enter_the_mean() -> None:
    wrong = {(kind, s, str(i)) for kind in KINDS[15:] for s in range(1, 6) for i in range(4)}
    (mean,) = by_hand(KINDS, wrong)["natural_means"]
    assert mean["over"] == list(BENCHMARK)
    assert mean["accuracy"] == 1
    assert mean["kinds"]["spatter"] == 0


@pytest.mark.parametrize(
    ("gate", "value", "verdict"),
    [
        ("corruption=77", 0.775, "pass"),
        ("corruption=78", 0.775, "fail"),
        ("corruption:snow=60", 0.6, "pass"),
        ("corruption:snow@5=1", 0.0, "fail"),
        ("corruption@4=50", 0.5, "pass"),
    ],
)
def test_gates_know_natural_scopes(gate: str, value: float, verdict: str) -> None:
    wrong = {("snow", severity, str(i)) for severity in (4, 5) for i in range(4)}
    wrong |= {("fog", 5, "0")}
    summary = by_hand(("snow", "fog"), wrong)
    found = judge([parse_gate(gate)], summary, exit_zero=False)
    assert found["gates"][0]["value"] == pytest.approx(value)
    assert found["verdict"] == verdict


def test_an_error_leaves_no_verdict_and_is_not_right() -> None:
    lines = [clean("a", 0, 0), natural_line("a", "snow", 1, error="broken", forwards=0)]
    phases = [NaturalPhase.from_dict({"attack": "corruption:kinds=snow,severity=1", "options": {}})]
    lines[1]["attack"] = phases[0].spec
    (row,) = natural_rows(Ledger.read(lines), phases)
    assert (row["correct"], row["errors"], row["accuracy"]) == (0, 1, 0.0)
    assert natural_means([row])[0]["accuracy"] == 0
    run = run_of([]) | {"natural": [phases[0].as_dict()]}
    assert summarise(run, Ledger.read(lines))["exit_code"] == 3


@pytest.mark.parametrize("gate", ["40", "corruption:rain=40", "spatial=40", "corruption:snow@9=4"])
def test_gates_on_what_is_not_run_are_refused(gate: str, tmp_path: Path) -> None:
    asked = config(attacks=("corruption:kinds=snow",), fail_under=(gate,))
    with pytest.raises(UsageError) as caught:
        execute(asked, Watcher(), out=tmp_path / "run")
    assert "not run here" in caught.value.message
    assert "corruption:kinds=snow" in (caught.value.hint or "")


def test_reports_show_kind_by_severity() -> None:
    summary = by_hand(KINDS, {("fog", 5, "0")})
    text = terminal.render(summary, width=80)
    assert "model calls per image, forwards / gradients: corruption" in text.replace("\n", " ")
    assert "saturate 95 / 0 " in text.replace("\n", " ")
    assert max(map(len, text.splitlines())) <= 80
    fog = next(line for line in text.splitlines() if line.startswith("fog"))
    assert fog.split() == ["fog", *["100.0", "%"] * 4, "75.0", "%", "95.0", "%"]
    assert "mean corruption accuracy 99.7 %" in text
    markdown = files.render(summary, "markdown")
    row = "| fog | 100.0 % | 100.0 % | 100.0 % | 100.0 % | 75.0 % | 95.0 % |"
    assert row in markdown
    table = files.render(summary, "csv")
    assert "natural,fog," in table
    assert "natural mean,fog," in table


def test_mixed_with_other_attacks_their_worst_case_stays() -> None:
    lines = [clean("a", 0, 0), answer("a", 0, success=False), natural_line("a", "snow", 1)]
    threat = NaturalPhase.from_dict({"attack": "corruption:kinds=snow,severity=1", "options": {}})
    lines[2] |= {"attack": threat.spec, "success": True, "adversarial_prediction": 1}
    run = run_of([phase()]) | {"natural": [threat.as_dict()]}
    summary = summarise(run, Ledger.read(lines))
    assert summary["worst_case"][0]["robust_accuracy"] == 1
    assert summary["natural"][0]["accuracy"] == 0

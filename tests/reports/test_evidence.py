"""Evidence of a run: complete, the same each time, whole or absent, and escaped."""

from __future__ import annotations

import csv
import datetime
import hashlib
import io
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from advcli.audit.directory import RunDirectory
from advcli.audit.natural import NaturalPhase
from advcli.audit.record import read_record
from advcli.cli.report import command
from advcli.errors import NoVerdictError, RunError, UsageError
from advcli.reports import evidence_folder
from advcli.reports.evidence import MANIFEST, evidence_files
from advcli.reports.evidence_folder import write_folder
from advcli.reports.evidence_mapping import SOURCES, requirements, techniques

from ..audit.support import answer, clean, finished, phase, run_of
from .standards import check_cyclonedx, strictly
from .test_standards import whole

VERSIONS = {"tensorflow": "2.21.0", "keras": "3.15.1", "numpy": "2.4", "pillow": "13"}
FILES = {
    *("evidence.md", "evidence.json", "figures.md", "figures.csv", "images.csv", MANIFEST),
    *("model-card.cdx.json", "run.json", "summary.json"),
}


def lines(unread: int = 2) -> list[dict[str, Any]]:
    """pgd fools 3 of 8 images, square none; `unread` files could not be read."""
    found = [clean(f"{i}.png", i % 2, i % 2, sha256=f"{i:064x}") for i in range(8)]
    found += [clean(f"bad{i}.png", 0, None, sha256=None, error="truncated") for i in range(unread)]
    for i in range(8):
        fooled = i < 3
        file = {"file": f"images/pgd/linf-0.1/{i}.png.png", "file_sha256": f"{i + 100:064x}"}
        found.append(answer(f"{i}.png", int(fooled), success=fooled, **file))
        square = {"attack": "square", "gradients": 0}
        found.append(answer(f"{i}.png", i % 2, success=False, distance=None, **square))
    return found


def made(root: Path, unread: int = 2, **run: Any) -> Path:
    """A finished run of pgd and square, with all that a real run.json has."""
    asked = [phase(), phase("square")]
    waiver = {"until": datetime.date(2027, 3, 31), "reason": "ticket 123"}
    config = {"gates": [{"gate": "99", "accept": waiver}], "fail_under": ("clean=50",)}
    base = run_of(asked, classes=3, **config)
    more = {
        "model": whole(base)["model"],
        "images": base["images"]
        | {"count": 12, "skipped": [{"file": "notes.txt", "reason": "no image"}]},
        "findings": [{"check": "preset", "verdict": "note", "detail": "audit leaves out FAB"}],
        "timings": {
            "pgd linf": {
                "seconds": 1.5,
                "model_seconds": 1.25,
                "trace_seconds": 2.0,
                "images": 8,
            }
        },
        "judged_on": "2027-03-01",
        "provenance": {
            "advcli": "0.1.0",
            **VERSIONS,
            "command": "advcli evaluate m.h5 i",
            "started": "2026-01-01T10:00:00+00:00",
            "finished": "2026-01-01T10:05:00+00:00",
        },
    }
    return finished(root, lines(unread), asked, run=more | run, **config)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return made(tmp_path / "run")


def files_of(run: Path) -> dict[str, bytes]:
    return evidence_files(read_record(RunDirectory(run)))


def facts_of(run: Path) -> dict[str, Any]:
    facts: dict[str, Any] = strictly(files_of(run)["evidence.json"].decode())
    return facts


def test_the_same_run_gives_the_same_bytes(run: Path, tmp_path: Path) -> None:
    first, second = files_of(run), files_of(made(tmp_path / "again" / "run"))
    assert set(first) == FILES
    assert first == second


def test_the_manifest_covers_every_file(run: Path, tmp_path: Path) -> None:
    write_folder(tmp_path / "evidence", files_of(run))
    listed = (tmp_path / "evidence" / MANIFEST).read_text().splitlines()
    assert {line.split("  ")[1] for line in listed} == FILES - {MANIFEST}
    checked = ["sha256sum", "--strict", "-c", MANIFEST]
    subprocess.run(checked, cwd=tmp_path / "evidence", check=True, capture_output=True)
    with (tmp_path / "evidence" / "evidence.md").open("a") as file:
        file.write("and it is safe\n")
    done = subprocess.run(checked, cwd=tmp_path / "evidence", check=False, capture_output=True)
    assert done.returncode == 1


def test_hashes_are_those_of_the_files(run: Path) -> None:
    hashes, files = facts_of(run)["hashes"], files_of(run)
    for name in ("run.json", "summary.json", "results.jsonl"):
        data = (run / name).read_bytes()
        assert hashes["run"][name] == hashlib.sha256(data).hexdigest()
        assert name == "results.jsonl" or files[name] == data
    assert hashes["model"] == "ab" * 32
    assert hashes["pixels"] == {f"{i}.png": f"{i:064x}" for i in range(8)} | {
        f"bad{i}.png": None for i in range(2)
    }
    assert hashes["written"] == {
        f"images/pgd/linf-0.1/{i}.png.png": f"{i + 100:064x}" for i in range(8)
    }
    text = files["evidence.md"].decode()
    for digest in (hashes["model"], *hashes["run"].values()):
        assert digest in text


def test_every_image_is_listed_with_what_became_of_it(run: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(files_of(run)["images.csv"].decode())))
    status = {row["image"]: row["status"] for row in rows}
    assert status == {
        **{f"{i}.png": "evaluated" for i in range(8)},
        **{f"bad{i}.png": "not read: truncated" for i in range(2)},
        "notes.txt": "skipped: no image",
    }
    assert rows[3]["sha256_of_pixels"] == f"{3:064x}"
    assert (rows[3]["label"], rows[3]["class"], rows[3]["clean_prediction"]) == ("1", "c1", "1")


def test_the_log_says_when_how_long_and_with_what(run: Path) -> None:
    facts = facts_of(run)
    log = facts["test_log"]
    assert (log["started"], log["finished"]) == (
        "2026-01-01T10:00:00+00:00",
        "2026-01-01T10:05:00+00:00",
    )
    pgd, square = log["phases"]
    assert (pgd["seconds"], pgd["model_seconds"], pgd["answers"], pgd["errors"]) == (
        1.5,
        1.25,
        8,
        0,
    )
    assert (square["seconds"], square["answers"]) == (None, 8)
    assert log["versions"].items() >= VERSIONS.items()
    assert facts["configuration"]["seed"] == 0
    text = files_of(run)["evidence.md"].decode().replace("\\", "")
    for shown in (
        "2026-01-01T10:00:00",
        "advcli evaluate m.h5 i",
        "| pgd | linf 0.1 | 1.50 | 1.25 |",
    ):
        assert shown in text
    assert "| seed | 0 |" in text
    assert "| tensorflow | 2.21.0 |" in text


def said(facts: dict[str, Any], topic: str) -> str:
    return " / ".join(row["detail"] for row in facts["not_tested"] if row["topic"] == topic)


def test_what_was_not_tested_is_said(run: Path) -> None:
    facts = facts_of(run)
    assert said(facts, "norms") == "perturbations measured in l2, l1, l0"
    assert said(facts, "budgets") == "perturbations in linf larger than 0.1"
    assert said(facts, "access").endswith("the predicted class alone (black box)")
    assert "gradients" not in said(facts, "access")
    left = said(facts, "attacks")
    assert "hopskipjump" in left
    assert "apgd" in left
    assert not {"pgd", "square"} & {name.strip() for name in left.replace(":", ",").split(",")}
    assert "corruption" in said(facts, "natural threats")
    assert said(facts, "preset") == "audit leaves out FAB"
    assert said(facts, "images") == (
        "4 of the 12 images in the folder / 3 file(s) that were skipped or could not be read: see "
        "images.csv"
    )
    assert said(facts, "classes") == "1 without an image: c2"
    assert "--soundness full" in said(facts, "soundness")
    assert "targeted" in said(facts, "goals")
    assert said(facts, "transfer")
    tested = "\n".join(facts["tested"])
    assert "8 of 12 images of i, unperturbed" in tested
    assert "pgd in linf at eps 0.1: sees the model's gradients" in tested
    assert "square in linf at eps 0.1: sees the model's scores" in tested


def test_what_was_tested_is_not_said_to_be_missing(tmp_path: Path) -> None:
    asked = [phase(name, norm) for norm in ("linf", "l2", "l1", "l0") for name in NAMED[norm]]
    threat = NaturalPhase.from_dict({"attack": "contrast"})
    run = finished(
        tmp_path / "run",
        [clean("a", 0, 0), clean("b", 1, 1)],
        asked,
        classes=2,
        run={
            "natural": [threat.as_dict()],
            "surrogate": {"path": "s.h5", "sha256": "cd" * 32},
            "model": whole(run_of([], classes=2))["model"],
            "images": run_of([])["images"] | {"count": 2},
            "probes": {"key": "of this run", "asked": [], "findings": []},
        },
        soundness="full",
    )
    facts = facts_of(run)
    topics = {row["topic"] for row in facts["not_tested"]}
    assert topics == {"budgets", "attacks", "natural threats", "goals"}
    assert "contrast" not in said(facts, "natural threats")
    assert any("s.h5" in text for text in facts["tested"])


NAMED = {"linf": ("pgd", "hopskipjump"), "l2": ("square",), "l1": ("apgd",), "l0": ("sparse-rs",)}


def test_gates_and_waivers_are_shown(tmp_path: Path) -> None:
    text = files_of(made(tmp_path / "run", unread=0))["evidence.md"].decode().replace("\\", "")
    assert "- **pass** clean=50: 100.0 %, at least 50.0 % wanted" in text
    assert "- **fail** worst case=99: " in text
    assert "failure waived until 2027-03-31: ticket 123" in text


def test_soundness_that_was_not_checked_is_said(tmp_path: Path) -> None:
    run = finished(
        tmp_path / "run",
        lines(unread=0),
        [phase(), phase("square")],
        soundness="off",
        run={"model": whole(run_of([]))["model"]},
    )
    facts = facts_of(run)
    assert facts["soundness"] == "unchecked"
    assert said(facts, "soundness").endswith("the checks were off")


def test_probes_that_were_left_out_and_images_that_were_not(tmp_path: Path) -> None:
    """A time budget that sufficed for all images asks no probe of them."""
    images = {"count": 9, "time_budget": {"seconds": 60.0, "images": 9, "of": 9}}
    run = finished(
        tmp_path / "run",
        lines(unread=0),
        [phase(), phase("square")],
        soundness="full",
        run={"model": whole(run_of([]))["model"], "images": run_of([])["images"] | images},
    )
    facts = facts_of(run)
    assert said(facts, "soundness").endswith("the probes of --soundness full")
    assert not any("time budget" in str(row) for row in facts["not_tested"])


# --- what it is relevant to


def test_no_row_claims_that_a_requirement_is_met(run: Path) -> None:
    text = files_of(run)["evidence.md"].decode().lower()
    assert "no row says that a requirement is met" in text
    for claim in ("complies", "compliant", "conforms", "satisfies", "fulfils", "proves", "certif"):
        assert claim not in text
    facts = facts_of(run)
    assert facts["sources"] == SOURCES
    rows = {row["reference"]: row for row in facts["requirements"]}
    assert set(rows) >= {"Article 15(5)", "Annex IV, point 2(g)", "MEASURE 2.7"}
    assert not rows["Article 15(4)"]["relevant"]  # no natural threat was run
    assert rows["Article 15(4)"]["files"] == []
    for row in rows.values():
        assert set(row["files"]) <= FILES
    with_natural = {"natural": [{}], "attacks": []}
    found = {row["reference"]: row["relevant"] for row in requirements(with_natural)}
    assert found["Article 15(4)"]
    assert not found["Article 15(5)"]
    assert not found["MEASURE 2.7"]


@pytest.mark.parametrize(
    ("access", "transfer", "identifiers"),
    [
        ("gradient", False, ["AML.T0015", "AML.T0043.000", "AML.T0044"]),
        ("scores", False, ["AML.T0015", "AML.T0043.001", "AML.T0040"]),
        ("decision", False, ["AML.T0015", "AML.T0043.001", "AML.T0040"]),
        ("gradient", True, ["AML.T0015", "AML.T0043.002", "AML.T0005"]),
        ("none", False, ["AML.T0015", "AML.T0043"]),
        ("none", True, ["AML.T0015", "AML.T0043"]),
    ],
)
def test_an_attack_is_a_technique_by_what_it_may_see(
    access: str, transfer: bool, identifiers: list[str]
) -> None:
    stored = [{"attack": "a", "norm": "l2", "access": access}]
    found = techniques(stored, transfer=transfer)
    (row,) = found["attacks"]
    assert [technique["id"] for technique in row["techniques"]] == identifiers
    unused = {technique["id"] for technique in found["not_exercised"]}
    crafting = {f"AML.T0043.{number:03d}" for number in range(5)}
    assert unused == crafting - set(identifiers)


# --- the model card


def test_the_model_card_is_cyclonedx_with_every_figure(run: Path) -> None:
    text = files_of(run)["model-card.cdx.json"].decode()
    check_cyclonedx(text)
    card = json.loads(text)
    assert card["metadata"]["timestamp"] == "2026-01-01T10:05:00+00:00"
    model = card["components"][0]
    assert model["hashes"] == [{"alg": "SHA-256", "content": "ab" * 32}]
    metrics = model["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
    found = {(metric["type"], metric["slice"]): metric for metric in metrics}
    summary = json.loads((run / "summary.json").read_text())
    worst = found["robust accuracy", "worst case, linf 0.1"]
    (row,) = summary["worst_case"]
    assert float(worst["value"]) == row["robust_accuracy"] == 5 / 8
    bounds = worst["confidenceInterval"]
    assert [float(bounds["lowerBound"]), float(bounds["upperBound"])] == row["ci95"]
    assert float(found["accuracy", "unperturbed"]["value"]) == 1
    assert len(found) == len(metrics) == 1 + 2 + 1 + 2 * 2
    limits = " ".join(model["modelCard"]["considerations"]["technicalLimitations"])
    assert "upper bound" in limits
    assert "perturbations measured in l2, l1, l0" in limits


def test_another_run_has_another_serial_number(run: Path, tmp_path: Path) -> None:
    def serial(of: Path) -> str:
        return str(json.loads(files_of(of)["model-card.cdx.json"])["serialNumber"])

    other = made(tmp_path / "other" / "run", judged_on="2027-03-02")
    assert serial(run) != serial(other)
    assert serial(run) == serial(run)


def test_natural_threats_are_in_the_card(tmp_path: Path) -> None:
    threat = NaturalPhase.from_dict({"attack": "corruption:kinds=snow"})
    known = [clean(f"{i}", 0, 0) for i in range(4)]
    for question in threat.attack.questions():
        known += [
            answer(f"{i}", 0, success=i < 1, attack=threat.spec, norm=None, eps=None, found=None)
            | {"kind": question.kind, "severity": question.severity, "distance": None}
            for i in range(4)
        ]
    more = {"natural": [threat.as_dict()], "model": whole(run_of([]))["model"]}
    files = files_of(finished(tmp_path / "run", known, [], run=more))
    check_cyclonedx(files["model-card.cdx.json"].decode())
    assert b"corruption:kinds=snow: snow, severity 5" in files["model-card.cdx.json"]
    facts = json.loads(files["evidence.json"])
    assert facts["test_log"]["phases"][0]["answers"] == 20
    assert facts["techniques"]["attacks"] == []
    assert "transfer" not in {row["topic"] for row in facts["not_tested"]}


def test_a_run_without_an_image_has_evidence(tmp_path: Path) -> None:
    unread = [clean("a.png", 0, None, sha256=None, error="damaged")]
    root = finished(tmp_path / "run", unread, [phase()], run={"model": whole(run_of([]))["model"]})
    check_cyclonedx(files_of(root)["model-card.cdx.json"].decode())


# --- refusals, and writing


def unfinished(run: Path) -> None:
    (run / "summary.json").unlink()


def beautified(run: Path) -> None:
    summary = json.loads((run / "summary.json").read_text())
    summary["worst_case"][0]["robust_accuracy"] = 0.99
    (run / "summary.json").write_text(json.dumps(summary))


def of_another_version(run: Path) -> None:
    beautified(run)
    summary = json.loads((run / "summary.json").read_text())
    (run / "summary.json").write_text(json.dumps(summary | {"advcli_version": "0.0.1"}))


def forged(run: Path) -> None:
    text = (run / "results.jsonl").read_text()
    (run / "results.jsonl").write_text(text.replace('"success": true', '"success": false', 1))


def gone(run: Path) -> None:
    (run / "run.json").unlink()


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        (unfinished, "--resume"),
        (beautified, "advcli verify"),
        (of_another_version, "advcli verify"),
        (forged, "advcli verify"),
        (gone, "--out"),
    ],
)
def test_what_cannot_be_vouched_for_is_refused(
    run: Path, tmp_path: Path, change: Callable[[Path], None], hint: str
) -> None:
    change(run)
    with pytest.raises(RunError) as refused:
        files_of(run)
    assert refused.value.exit_code == 2
    assert hint in refused.value.hint
    target = tmp_path / "evidence"
    done = CliRunner().invoke(command, [str(run), "--evidence", str(target)], standalone_mode=False)
    assert isinstance(done.exception, RunError)
    assert done.stdout == ""
    assert not target.exists()


def test_a_run_of_another_version_needs_the_same_counts_alone(run: Path) -> None:
    summary = json.loads((run / "summary.json").read_text())
    del summary["confusion"]
    (run / "summary.json").write_text(json.dumps(summary))
    with pytest.raises(RunError):
        files_of(run)
    (run / "summary.json").write_text(json.dumps(summary | {"advcli_version": "0.0.1"}))
    assert set(files_of(run)) == FILES


def test_the_folder_is_new_or_empty(run: Path, tmp_path: Path) -> None:
    files = files_of(run)
    (tmp_path / "file").write_text("")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("kept")
    (tmp_path / "dangling").symlink_to(tmp_path / "full" / "mine")
    for name in ("file", "full", "dangling", "file/below", "run"):
        with pytest.raises(UsageError):
            write_folder(tmp_path / name, files)
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine"]
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    for name in ("empty", "new/deep"):
        write_folder(tmp_path / name, files)
        assert {path.name for path in (tmp_path / name).iterdir()} == FILES
    assert {path.name for path in (tmp_path / "link").iterdir()} == FILES
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_write_that_fails_leaves_nothing(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes) -> str:
        if path.name == MANIFEST:
            raise NoVerdictError("no space left on device")
        path.write_bytes(data)
        return ""

    monkeypatch.setattr(evidence_folder, "write_bytes", full)
    with pytest.raises(NoVerdictError):
        write_folder(tmp_path / "evidence", files_of(run))
    assert [path.name for path in tmp_path.iterdir()] == ["run"]

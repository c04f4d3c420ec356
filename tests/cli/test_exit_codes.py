"""Every exit code through a real process, under `set -euo pipefail`."""

import json
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from advcli.cli import exits

from ..reports.standards import check_summary
from .support import PYTHON, SAMPLES, environment, shell

CNN = "sample_models/digits/cnn.h5"
IMAGES = "sample_models/digits/images"
QUICK = f"{CNN} {IMAGES} --limit 16 --preprocess unit -a fgsm --eps 0.1"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One finished `attack` with a failing gate; its exit code is in the folder's name."""
    root = tmp_path_factory.mktemp("cli") / "run"
    done = shell(
        f"advcli attack {QUICK} --fail-under 99 --out {root} --format json "
        f"-r {root}.md -r {root}.csv | python3 -m json.tool > {root}.json",
        GITHUB_STEP_SUMMARY=f"{root}.page",
    )
    assert done.returncode == 1, done.stderr
    assert "run kept in" in done.stderr
    return root


def test_1_a_gate_failed_and_everything_is_written(run: Path) -> None:
    printed = json.loads(run.with_suffix(".json").read_text())
    kept = json.loads((run / "summary.json").read_text())
    assert printed == kept
    check_summary(printed)
    assert (kept["verdict"], kept["exit_code"]) == ("fail", 1)
    assert run.with_suffix(".md").read_text().startswith("# Robustness")
    assert run.with_suffix(".csv").read_text().startswith("section,")
    assert run.with_suffix(".page").read_text() == "\n" + run.with_suffix(".md").read_text()


def test_0_equality_passes_and_exit_zero_forgives(run: Path) -> None:
    value = json.loads((run / "summary.json").read_text())["worst_case"][0]["robust_accuracy"]
    again = f"advcli attack {QUICK} --out {run} --resume -q"
    assert shell(f"{again} --fail-under {100 * value}").returncode == 0
    done = shell(f"{again} --fail-under 99 --exit-zero")
    assert done.returncode == 0
    assert "FAIL" in done.stdout
    assert done.stderr == ""


def test_2_a_run_that_is_there_already(run: Path) -> None:
    before = (run / "run.json").read_bytes()
    done = shell(f"advcli attack {QUICK} --out {run}")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--resume" in done.stderr
    assert (run / "run.json").read_bytes() == before


def test_report_renders_a_finished_run_again(run: Path, tmp_path: Path) -> None:
    """Without the model, and whatever the run's own verdict was."""
    summary = (run / "summary.json").read_text()
    done = shell(f"advcli report {run} --format json -r {tmp_path}/a.junit.xml -r {tmp_path}/b.csv")
    assert (done.returncode, json.loads(done.stdout)) == (0, json.loads(summary))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.junit.xml", "b.csv"]
    assert shell(f"advcli report {run} -q").stdout == ""
    for wrong in (tmp_path, tmp_path / "nowhere"):
        done = shell(f"advcli report {wrong}")
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("error: ")


def test_3_verify_finds_a_changed_file(run: Path, tmp_path: Path) -> None:
    assert shell(f"cp -r {run} {tmp_path}/copy; advcli verify {tmp_path}/copy").returncode == 0
    file = next((tmp_path / "copy/images/fgsm").rglob("*.png"))
    file.write_bytes(b"no PNG")
    done = shell(f"advcli verify {tmp_path}/copy --format json")
    assert done.returncode == 3
    assert json.loads(done.stdout)["mismatches"][0]["file"].endswith(file.name)


def test_3_a_gate_that_would_pass_on_suspect_figures() -> None:
    masked = "sample_models/digits/masked.h5"
    script = f"advcli evaluate {masked} {IMAGES} --limit 16 -a noise --eps 0.01"
    done = shell(f"{script} --fail-under 1 --exit-zero --color never")
    assert done.returncode == 3, done.stderr
    assert "INCONCLUSIVE" in done.stdout
    assert "suspect" in done.stdout
    assert "\x1b" not in done.stdout


def test_a_reader_that_goes_away_changes_no_verdict() -> None:
    assert shell(f"advcli evaluate {QUICK} -q | head -c 1").returncode == 0
    assert shell("advcli attacks | true").returncode == 0


def test_3_a_result_that_could_not_be_written() -> None:
    done = shell("advcli attacks > /dev/full")
    assert done.returncode == 3
    assert "could not be written" in done.stderr


def test_2_a_report_in_a_place_that_cannot_be_written() -> None:
    done = shell(f"advcli evaluate {QUICK} -r /proc/x.json")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--report /proc/x.json: /proc cannot be written" in done.stderr
    assert len(done.stderr.splitlines()) == 2  # before any work, TensorFlow's start included


@pytest.mark.parametrize("arguments", ["m.h5 . -r {}.json", "m.h5 {}", "{} ."])
def test_2_names_that_no_file_can_have(arguments: str, tmp_path: Path) -> None:
    (tmp_path / "m.h5").touch()
    done = shell("advcli evaluate " + arguments.format("x" * 3000), cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "defect" not in done.stderr


@pytest.mark.parametrize("kept", [False, True])
def test_3_a_report_that_became_unwritable_meanwhile(
    kept: bool, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    out = ["--out", f"{tmp_path}/run", "--resume"] if kept else []
    if kept:
        shutil.copytree(run, tmp_path / "run")

    def vanish(path: Path, out: Path | None) -> None:
        path.mkdir()  # the report's place is taken by a folder in the middle of the run

    monkeypatch.setattr("advcli.reports.files.check_target", vanish)
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # the test run's own handlers stay
    command = "attack" if kept else "evaluate"
    reports = ["-r", f"{tmp_path}/lost.md", "-r", f"{tmp_path}/lost.csv"]
    assert exits.run([command, *QUICK.split(), *out, *reports, "--format", "json", "-q"]) == 3
    printed = capsys.readouterr()
    assert json.loads(printed.out)["clean"]["total"] == 16
    assert f"error: --report {tmp_path}/lost.md: cannot be written" in printed.err
    assert ("--resume" in printed.err) == kept


def test_a_variable_sets_an_option() -> None:
    done = shell(f"advcli evaluate {CNN} {IMAGES}", ADVCLI_EPS="eight")
    assert done.returncode == 2
    assert "'eight' is no perturbation budget (variable ADVCLI_EPS)" in done.stderr
    done = shell(f"advcli evaluate {CNN} {IMAGES}", ADVCLI_LIMIT="abc")
    assert (done.returncode, done.stdout) == (2, "")
    assert "'abc' is not a valid integer" in done.stderr
    assert "It was set by the variable ADVCLI_LIMIT." in done.stderr
    done = shell("advcli attacks", ADVCLI_FORMAT="xml")
    assert "the variable ADVCLI_FORMAT" in done.stderr
    done = shell(f"advcli evaluate {CNN} {IMAGES} --limit abc", ADVCLI_LIMIT="3")
    assert "variable" not in done.stderr
    done = shell(f"advcli evaluate {CNN} {IMAGES}", ADVCLI_ATTACK="pgd pdg")
    assert "unknown attack 'pdg'" in done.stderr
    assert shell("advcli attacks", ADVCLI_FORMAT="json").stdout.startswith("[")
    assert shell("advcli --version", ADVCLI_VERSION="1.2").stdout.startswith("advcli ")
    assert shell("advcli attacks", ADVCLI_HELP="1", ADVCLI_VERSION="1").stdout.startswith("attack ")


def test_inspect_says_what_to_paste(tmp_path: Path) -> None:
    done = shell(f"advcli inspect {CNN} {IMAGES} --format json")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["head"]["classes"] == 10
    assert facts["images"]["preprocessing"]["flag"] == "unit"
    assert facts["images"]["sampled"] == 256
    done = shell(f"advcli inspect {CNN} {IMAGES} --limit 40")
    assert "looked at 40" in done.stdout, done.stderr
    done = shell(f"echo nonsense > {tmp_path}/a.h5; advcli inspect {tmp_path}/a.h5")
    assert (done.returncode, done.stdout) == (2, "")


class Process:
    """A long run that a signal meets in the middle of an attack."""

    def __init__(self, out: Path | None, spec: str = "pgd:steps=20000,restarts=50") -> None:
        model = [str(SAMPLES / "robust.h5"), str(SAMPLES / "images"), "--limit", "40"]
        attack = ["-a", spec, "--eps", "26/255", "--preprocess", "unit"]
        keep = [] if out is None else ["--out", str(out)]
        self.process = subprocess.Popen(
            [PYTHON, "-m", "advcli", "evaluate", *model, *attack, *keep, "--progress", "plain"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
        )

    def stop(self, signum: int) -> tuple[int, str, str]:
        """Sends the signal when the clean pass is over and the attack runs."""
        assert self.process.stderr is not None
        first = self.process.stderr.readline()
        assert first.startswith("clean: 40/40"), first
        time.sleep(2.0)
        self.process.send_signal(signum)
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, out, err


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_130_143_what_was_finished_is_kept(tmp_path: Path, signum: int, code: int) -> None:
    root = tmp_path / "run"
    returned, out, err = Process(root).stop(signum)
    assert (returned, out) == (code, "")
    assert f"--out {root} --resume" in err
    assert "Traceback" not in err
    lines = (root / "results.jsonl").read_text().splitlines()
    assert len(lines) >= 40
    assert all(json.loads(line) for line in lines)
    assert not (root / "summary.json").exists()


def test_without_out_ctrl_c_says_that_nothing_was_kept() -> None:
    returned, out, err = Process(None).stop(signal.SIGINT)
    assert (returned, out) == (130, "")
    assert "nothing was kept" in err


def test_a_run_killed_outright_is_resumed(tmp_path: Path) -> None:
    root = tmp_path / "run"
    returned, _, _ = Process(root, "cw:steps=150,searches=2").stop(signal.SIGKILL)
    assert returned == -signal.SIGKILL
    with (root / "results.jsonl").open("ab") as file:
        file.write(b'{"image": "torn')
    before = (root / "results.jsonl").read_bytes().rpartition(b"\n")[0]
    done = shell(
        f"advcli evaluate {SAMPLES}/robust.h5 {SAMPLES}/images --out {root} --resume "
        "--format json -q | python3 -m json.tool"
    )
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["attacks"][0]["attempted"] == summary["clean"]["correct"]
    assert (root / "results.jsonl").read_bytes().startswith(before)

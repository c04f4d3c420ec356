"""A whole audit in this process, on the sample digits."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from advcli.audit.directory import RunDirectory
from advcli.audit.journal import read_lines
from advcli.audit.plan import AuditConfig
from advcli.audit.run import execute
from advcli.audit.verify import verify
from advcli.errors import AdvcliError, RunError, UsageError

from .support import SAMPLES, Watcher

EPS = (0.15, 0.25)


def config(command: str = "attack", **more: Any) -> AuditConfig:
    settings = {
        "command": command,
        "model": str(SAMPLES / "robust.h5"),
        "images": str(SAMPLES / "images"),
        "attacks": ("pgd:steps=10", "fgsm"),
        "eps": EPS,
        "preprocess": "unit",
        "limit": 24,
        "batch_size": 16,
    }
    return AuditConfig.model_validate(settings | more)


def lines_of(root: Path) -> list[dict[str, Any]]:
    return list(read_lines(root / "results.jsonl"))


def figures(summary: dict[str, Any]) -> str:
    """The summary without its timings and provenance."""
    kept = json.loads(json.dumps(summary, default=list))
    for row in kept["attacks"]:
        del row["seconds"], row["images_per_second"]
    for key in ("seconds", "model_seconds"):
        del kept["engine"][key]
    del kept["provenance"]
    return json.dumps(kept)


class Stop(Exception):
    """Stands for a kill in the middle of a run."""


class Stopping(Watcher):
    """Stops a run when so many steps of progress were reported."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self._after = after

    def advance(self, done: int, standing: int | None) -> None:
        super().advance(done, standing)
        if len(self.steps) == self._after:
            raise Stop


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    root = tmp_path_factory.mktemp("whole") / "run"
    return root, execute(config(), Watcher(), out=root).summary


def test_every_attacked_image_has_a_line_and_a_file(whole: tuple[Path, dict[str, Any]]) -> None:
    root, summary = whole
    lines = lines_of(root)
    clean = [line for line in lines if line["attack"] == "clean"]
    attacked = [line for line in lines if line["attack"] != "clean"]
    correct = [line for line in clean if line["label"] == line["clean_prediction"]]
    assert lines[: len(clean)] == clean
    assert len(clean) == 24
    assert len(attacked) == len(correct) * 2 * len(EPS)
    for line in attacked:
        assert (root / line["file"]).is_file()
        folder = line["attack"].replace(":", "_").replace("=", "-")
        assert line["file"].startswith(f"images/{folder}/linf-")
        assert line["file"].endswith(line["image"] + ".png")
    assert {p.name for p in root.iterdir()} - {".lock"} == {
        "run.json",
        "results.jsonl",
        "summary.json",
        "images",
    }
    assert len(list((root / "images/clean").rglob("*.png"))) == 24
    assert json.loads((root / "summary.json").read_text())["attacks"] == json.loads(
        json.dumps(summary["attacks"])
    )


def test_the_files_are_inside_the_ball_and_tell_the_tables_figures(
    whole: tuple[Path, dict[str, Any]],
) -> None:
    import keras

    root, summary = whole
    model = keras.models.load_model(SAMPLES / "robust.h5", compile=False)
    labels = {line["image"]: line["label"] for line in lines_of(root) if line["attack"] == "clean"}
    for row in summary["attacks"]:
        fooled = 0
        chosen = [
            line
            for line in lines_of(root)
            if (line["attack"], line.get("eps")) == (row["attack"], row["eps"])
        ]
        pixels = []
        for line in chosen:
            point = np.asarray(Image.open(root / line["file"]), np.int64)
            origin = np.asarray(Image.open(root / f"images/clean/{line['image']}.png"), np.int64)
            assert np.abs(point - origin).max() / 255 <= row["eps"]
            pixels.append(point[..., None] / 255)
        predictions = model.predict(np.array(pixels, np.float32), verbose=0).argmax(axis=1)
        fooled = sum(
            int(p) != labels[line["image"]] for p, line in zip(predictions, chosen, strict=True)
        )
        assert fooled == row["broken"]
        assert len(chosen) == row["attempted"]


def test_fooled_at_one_eps_is_fooled_at_the_larger(whole: tuple[Path, dict[str, Any]]) -> None:
    lines = [line for line in lines_of(whole[0]) if line["attack"] != "clean"]
    small = {(x["image"], x["attack"]): x for x in lines if x["eps"] == EPS[0] and x["success"]}
    large = {(x["image"], x["attack"]): x for x in lines if x["eps"] == EPS[1]}
    assert small
    for key, line in small.items():
        assert large[key]["success"]
        assert large[key]["steps"] == 0
        assert large[key]["file"] == line["file"]


@pytest.mark.parametrize("after", [3, 60])
def test_a_resumed_run_gives_the_same_summary(
    whole: tuple[Path, dict[str, Any]], tmp_path: Path, after: int
) -> None:
    root = tmp_path / "run"
    with pytest.raises(Stop):
        execute(config(), Stopping(after), out=root)
    before = (root / "results.jsonl").read_bytes()
    assert not (root / "summary.json").exists()
    with (root / "results.jsonl").open("ab") as file:
        file.write(b'{"image": "torn by a ki')
    resumed = execute(config(), Watcher(), out=root, resume=True).summary
    assert (root / "results.jsonl").read_bytes().startswith(before)
    assert figures(resumed) == figures(whole[1])
    assert sorted(map(str, lines_of(root))) == sorted(map(str, lines_of(whole[0])))


def test_a_finished_run_computes_nothing_and_can_be_extended(
    whole: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    root = tmp_path / "run"
    shutil.copytree(whole[0], root)
    watcher = Watcher()
    again = execute(config(), watcher, out=root, resume=True)
    assert figures(again.summary) == figures(whole[1])
    assert watcher.titles == ["clean"]
    more = config(attacks=("fgsm",), eps=(0.3,))
    extended = execute(
        more, Watcher(), out=root, resume=True, given=frozenset({"attacks", "eps"})
    ).summary
    notes = [f["detail"] for f in extended["soundness"]["findings"] if f["check"] == "budget"]
    assert [note.split(" of 255")[0] for note in notes] == [
        "linf 0.15, 0.25, 0.3 allow 38, 63, 76",
    ]
    assert [(r["attack"], r["eps"]) for r in extended["attacks"]] == [
        ("pgd:steps=10", 0.15),
        ("pgd:steps=10", 0.25),
        ("fgsm", 0.15),
        ("fgsm", 0.25),
        ("fgsm", 0.3),
    ]
    assert extended["attacks"][4]["broken"] >= extended["attacks"][3]["broken"]
    assert verify(root, replay=3).mismatches == []


def test_a_limit_can_grow_and_shrink(whole: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    root = tmp_path / "run"
    shutil.copytree(whole[0], root)
    given = frozenset({"limit"})
    for limit in (30, 12):
        watcher = Watcher()
        asked = config(limit=limit)
        summary = execute(asked, watcher, out=root, resume=True, given=given).summary
        assert any(note.startswith(f"--limit is {limit} now, and was ") for note in watcher.notes)
        assert summary["images"]["evaluated"] == limit
    fresh = execute(config(command="evaluate", limit=limit), Watcher()).summary
    assert [r["robust"] for r in summary["attacks"]] == [r["robust"] for r in fresh["attacks"]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": str(SAMPLES / "cnn.h5")}, "another model"),
        ({"seed": 1}, "seed is 0 there, 1 now"),
        ({"pixels": "float"}, "pixels"),
        ({"batch_size": 8}, "batch_size"),
        ({"preprocess": "raw"}, "preprocess"),
        ({"resize": "crop"}, "resize"),
        ({"targeted": "next"}, "targeted"),
        ({"preset": "quick", "attacks": ()}, "cascade"),
    ],
)
def test_another_runs_data_is_refused(
    whole: tuple[Path, dict[str, Any]], change: dict[str, Any], message: str
) -> None:
    before = (whole[0] / "run.json").read_bytes()
    given = frozenset(change)
    with pytest.raises(RunError, match=message):
        execute(
            config(allow_chance=True, **change), Watcher(), out=whole[0], resume=True, given=given
        )
    assert (whole[0] / "run.json").read_bytes() == before


def test_changed_images_are_refused(whole: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    images = tmp_path / "images"
    shutil.copytree(SAMPLES / "images", images)
    root = tmp_path / "run"
    shutil.copytree(whole[0], root)
    moved = config(images=str(images))
    execute(moved, Watcher(), out=root, resume=True)  # the same images elsewhere are the same run
    changed = images / lines_of(root)[0]["image"]
    pixels = np.array(Image.open(changed))
    pixels[0, 0] ^= 1
    Image.fromarray(pixels).save(changed)
    # by content hash it may have left the sample, so ask for all of them
    with pytest.raises(RunError, match="is another image than in the run"):
        execute(
            config(images=str(images), limit=364),
            Watcher(),
            out=root,
            resume=True,
            given=frozenset({"limit"}),
        )


def test_a_resume_without_a_run_begins_one(tmp_path: Path) -> None:
    result = execute(config(limit=2), Watcher(), out=tmp_path / "run", resume=True)
    assert result.summary["images"]["evaluated"] == 2


def test_evaluate_keeps_nothing_unless_asked(tmp_path: Path) -> None:
    one = config("evaluate", limit=3, attacks=("fgsm",))
    result = execute(one, Watcher())
    assert result.directory is None
    kept = execute(one, Watcher(), out=tmp_path / "run")
    assert not (tmp_path / "run/images").exists()
    assert figures(kept.summary) == figures(result.summary)
    saved = one.model_copy(update={"save_images": True, "only_fooled": True, "eps": (0.3,)})
    execute(saved, Watcher(), out=tmp_path / "saved")
    for line in lines_of(tmp_path / "saved"):
        assert (line.get("file") is not None) == bool(line.get("success"))
    with pytest.raises(UsageError, match="run directory"):
        execute(saved, Watcher())


def test_float_pixels_are_written_as_numbers(tmp_path: Path) -> None:
    root = tmp_path / "run"
    execute(
        config(pixels="float", limit=4, eps=(0.1,), attacks=("pgd:steps=5",)), Watcher(), out=root
    )
    files = [line["file"] for line in lines_of(root) if line.get("file")]
    assert files
    for file in files:
        array = np.load(root / file)
        assert file.endswith(".png.npy")
        assert array.dtype == np.float32
        assert array.min() >= 0
        assert array.max() <= 1
    assert verify(root, replay=2).mismatches == []


def test_misclassified_images_are_perturbed_too_when_asked(tmp_path: Path) -> None:
    # one class's folder under another's name: clean mistakes
    images = tmp_path / "images"
    for name in map(str, range(10)):
        (images / name).mkdir(parents=True)
        for file in sorted((SAMPLES / "images" / name).iterdir())[:2]:
            shutil.copy(file, images / name)
    shutil.copy(sorted((SAMPLES / "images/3").iterdir())[3], images / "5" / "three.png")
    base = {"images": str(images), "limit": None, "eps": (0.1,), "attacks": ("fgsm",)}
    plain = execute(config(**base), Watcher(), out=tmp_path / "a").summary
    more = execute(
        config(**base, include_misclassified=True), Watcher(), out=tmp_path / "b"
    ).summary
    names = {line["image"] for line in lines_of(tmp_path / "b") if line["attack"] == "fgsm"}
    assert "5/three.png" in names
    assert "5/three.png" not in {
        line["image"] for line in lines_of(tmp_path / "a") if line["attack"] == "fgsm"
    }
    assert [r["robust"] for r in plain["attacks"]] == [r["robust"] for r in more["attacks"]]


def test_unlabelled_folders_say_so(tmp_path: Path) -> None:
    for position, file in enumerate(sorted((SAMPLES / "images").rglob("*.png"))[::40]):
        shutil.copy(file, tmp_path / f"{position}.png")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n but no more")
    watcher = Watcher()
    settings = {"images": str(tmp_path), "limit": None, "eps": (0.1,), "attacks": ("fgsm",)}
    summary = execute(config("evaluate", **settings), watcher).summary
    assert summary["images"]["labels"] == "model"
    assert summary["clean"]["accuracy"] == 1
    assert [entry["file"] for entry in summary["images"]["skipped"]] == ["broken.png"]
    assert any("no labels" in note for note in watcher.notes)
    assert summary["exit_code"] == 0


def test_a_folder_of_broken_files_passes_no_gate(tmp_path: Path) -> None:
    images = tmp_path / "images"
    for name in map(str, range(10)):
        (images / name).mkdir(parents=True)
        for position, file in enumerate(sorted((SAMPLES / "images" / name).iterdir())[:2]):
            data = file.read_bytes()
            (images / name / file.name).write_bytes(data[:60] if name == "7" and position else data)
    settings = {"images": str(images), "limit": None, "eps": (0.01,), "attacks": ("fgsm",)}
    gated = config("evaluate", **settings, fail_under=("1",))
    found = execute(gated, Watcher()).summary
    assert (found["images"]["evaluated"], found["exit_code"]) == (19, 0)
    for file in (images / "7").iterdir():
        file.write_bytes(file.read_bytes()[:60])
    watcher = Watcher()
    found = execute(gated, watcher).summary
    assert (found["verdict"], found["exit_code"]) == ("inconclusive", 3)
    assert "no image is left of 1 class(es): 7" in found["soundness"]["findings"][-1]["detail"]
    assert len(found["images"]["skipped"]) == 2


def test_progress_ends_at_its_total_whatever_is_unreadable(tmp_path: Path) -> None:
    class Counting(Watcher):
        def begin(self, title: str, total: int) -> None:
            super().begin(title, total)
            self.total = total

        def advance(self, done: float, standing: int | None) -> None:
            super().advance(done, standing)
            assert done <= self.total

        def end(self) -> None:
            self.notes.append(f"{self.steps[-1][0]}/{self.total}")

    images = tmp_path / "images"
    for name in map(str, range(10)):
        (images / name).mkdir(parents=True)
        for file in sorted((SAMPLES / "images" / name).iterdir())[:4]:
            shutil.copy(file, images / name)
        (images / name / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    settings = {"images": str(images), "attacks": ("noise",), "eps": (0.01,)}
    for limit, expected in ((24, "24/24"), (None, "50/50")):
        watcher = Counting()
        found = execute(config("evaluate", **settings, limit=limit), watcher).summary
        assert found["images"]["skipped"]
        assert watcher.notes[-2] == expected


def test_targeted_attacks_aim(tmp_path: Path) -> None:
    root = tmp_path / "run"
    settings = {"targeted": "3", "eps": (0.4,), "attacks": ("pgd",), "limit": 16}
    summary = execute(config(**settings), Watcher(), out=root).summary
    lines = lines_of(root)
    threes = {line["image"] for line in lines if line["attack"] == "clean" and line["label"] == 3}
    hits = 0
    for line in lines:
        if line["attack"] == "clean":
            continue
        assert line["image"] not in threes
        assert line["success"] == (line["adversarial_prediction"] == 3)
        hits += line["success"]
    assert hits
    assert summary["attacks"][0]["success_rate"] == hits / summary["attacks"][0]["attempted"]
    assert summary["worst_case"] == []
    assert summary["provenance"]["targeted"] == "3"
    assert summary["provenance"]["cascade"] is False


def test_a_target_that_is_no_class_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such class"):
        execute(config(targeted="cat", attacks=("pgd",)), Watcher(), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_model_at_chance_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("\n".join("1234567890"))
    wrong = config(classes=str(names), limit=None)
    with pytest.raises(AdvcliError, match="no more than guessing") as caught:
        execute(wrong, Watcher(), out=tmp_path / "run")
    assert caught.value.exit_code == 2
    assert not (tmp_path / "run").exists()


class TestVerify:
    @pytest.fixture
    def run(self, whole: tuple[Path, dict[str, Any]], tmp_path: Path) -> Path:
        shutil.copytree(whole[0], tmp_path / "run")
        return tmp_path / "run"

    def test_an_honest_run(self, run: Path) -> None:
        found = verify(run, replay=4)
        assert found.mismatches == []
        assert found.clean == 24
        assert found.files >= 80
        assert found.replayed >= 8

    def test_a_run_whose_model_and_images_have_moved(self, run: Path) -> None:
        directory = RunDirectory(run)
        stored = directory.read_run()
        stored["config"] |= {"model": "gone/model.h5", "images": "gone/images"}
        directory.write_run(stored)
        with pytest.raises(RunError, match=r"gone/model\.h5.*nothing is there") as refused:
            verify(run)
        assert refused.value.hint == "say where it is now: --model PATH"
        model = str(SAMPLES / "robust.h5")
        with pytest.raises(RunError, match="gone/images"):
            verify(run, model=model)
        images = str(SAMPLES / "images")
        assert verify(run, model=model, images=images).mismatches == []
        (other,) = verify(run, model=str(SAMPLES / "cnn.h5"), images=images).mismatches
        assert "the model is another file" in str(other["detail"])

    def test_what_was_changed_is_named(self, run: Path) -> None:
        lines = lines_of(run)
        attacked = [line for line in lines if line["attack"] == "pgd:steps=10"]
        far, gone = attacked[0]["file"], attacked[1]["file"]
        pixels = np.array(Image.open(run / far))
        pixels[3, 3] = 255 - pixels[3, 3]
        Image.fromarray(pixels).save(run / far)
        (run / gone).unlink()
        origin = RunDirectory(run).clean_file(lines[5]["image"])
        pixels = np.array(Image.open(run / origin))
        pixels[3, 3] ^= 1
        Image.fromarray(pixels).save(run / origin)
        found = {(entry["image"], entry["file"]) for entry in verify(run).mismatches}
        assert {(attacked[0]["image"], far), (attacked[1]["image"], gone)} <= found
        assert (lines[5]["image"], origin) in found

    def test_every_file_has_its_hash_and_no_change_of_it_goes_unseen(self, run: Path) -> None:
        lines = [line for line in lines_of(run) if line["attack"] != "clean"]
        for line in lines:
            assert (
                line["file_sha256"] == hashlib.sha256((run / line["file"]).read_bytes()).hexdigest()
            )
        shared = next(x for x in lines if x["eps"] == EPS[1] and x["success"] and x["steps"] == 0)
        # the same pixels in other bytes: as far away as before, and predicted the same
        image = Image.open(run / shared["file"])
        image.load()
        image.save(run / shared["file"], compress_level=0)
        found = verify(run).mismatches
        assert {entry["file"] for entry in found} == {shared["file"]}
        assert all("was changed after it was written" in str(e["detail"]) for e in found)
        journal = run / "results.jsonl"
        kept = [json.loads(raw) for raw in journal.read_text().splitlines()]
        for line in kept:
            line.pop("file_sha256", None)
        journal.write_text("".join(json.dumps(line) + "\n" for line in kept))
        assert verify(run).mismatches == []  # as an earlier version wrote it

    def test_a_polished_journal_or_summary_is_found_out(self, run: Path) -> None:
        journal = run / "results.jsonl"
        text = journal.read_text().splitlines()
        at = next(i for i, raw in enumerate(text) if json.loads(raw).get("success"))
        line = json.loads(text[at])
        line |= {"success": False, "adversarial_prediction": 0}
        text[at] = json.dumps(line)
        journal.write_text("\n".join(text) + "\n")
        details = " ".join(str(entry["detail"]) for entry in verify(run).mismatches)
        assert "is not what the journal adds up to" in details
        assert "the journal calls it no success" in details
        assert "the model predicts" in details

    def test_an_unfinished_run(self, run: Path) -> None:
        (run / "summary.json").unlink()
        with pytest.raises(RunError, match="not finished"):
            verify(run)

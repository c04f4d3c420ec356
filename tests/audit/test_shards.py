"""Shards, time budgets and runs that were stopped: parts of one run, and nothing twice."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from advcli.audit.deadline import BLOCK, Deadline, TimeIsUpError, parse_duration, shown_duration
from advcli.audit.directory import RunDirectory
from advcli.audit.merge import merge_runs
from advcli.audit.plan import AuditConfig
from advcli.audit.run import execute
from advcli.audit.shards import parse_shard
from advcli.audit.unfinished import summary_of
from advcli.audit.verify import verify
from advcli.cli import exits
from advcli.errors import NoVerdictError, RunError, UsageError
from advcli.images.sample import Shard

from .support import SAMPLES, Watcher, answer, clean, phase, run_of
from .test_run import figures, lines_of

SETTINGS = {
    "command": "evaluate",
    "model": str(SAMPLES / "robust.h5"),
    "images": str(SAMPLES / "images"),
    "attacks": ("fgsm",),
    "eps": (0.15,),
    "preprocess": "unit",
    "batch_size": 8,
}


def config(**more: Any) -> AuditConfig:
    return AuditConfig.model_validate(SETTINGS | more)


@given(st.integers(0, 200), st.integers(1, 12))
def test_every_item_is_in_one_part(total: int, parts: int) -> None:
    items = tuple(range(total))
    shares = [Shard(number, parts).of(items) for number in range(1, parts + 1)]
    assert sorted(item for share in shares for item in share) == list(items)
    assert [len(share) for share in shares] == [
        Shard(number, parts).share(total) for number in range(1, parts + 1)
    ]
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize(
    "text", ["0/3", "4/3", "1", "a/b", "1/0", "-1/2", "1/2/3", "1/9999999", ""]
)
def test_what_is_no_part(text: str) -> None:
    with pytest.raises(UsageError):
        parse_shard(text)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("shards")
    for number in (1, 2, 3):
        execute(config(limit=23, shard=f"{number}/3"), Watcher(), out=root / str(number))
    return [root / str(number) for number in (1, 2, 3)]


def test_shards_together_are_the_whole(parts: list[Path], tmp_path: Path) -> None:
    whole = execute(config(limit=23), Watcher(), out=tmp_path / "whole").summary
    merged = merge_runs([parts[2], parts[0], parts[1]], tmp_path / "merged")
    assert figures(merged) == figures(whole)
    assert sorted(map(str, lines_of(tmp_path / "merged"))) == sorted(
        map(str, lines_of(tmp_path / "whole"))
    )
    assert verify(tmp_path / "merged").exit_code == 0
    again = execute(config(limit=23), Watcher(), out=tmp_path / "merged", resume=True).summary
    assert figures(again) == figures(whole)


def edited(parts: list[Path], folder: Path, file: str, change: Callable[[Any], Any]) -> list[Path]:
    """Copies of the runs; in one file of the second something was changed."""
    copies = [Path(shutil.copytree(part, folder / part.name)) for part in parts]
    path = copies[1] / file
    if file.endswith("l"):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        path.write_text("".join(json.dumps(line) + "\n" for line in change(lines)))
    else:
        path.write_text(json.dumps(change(json.loads(path.read_text()))))
    return copies


def without_first(lines: list[Any]) -> list[Any]:
    """A journal that knows nothing of its first image."""
    return [line for line in lines if line["image"] != lines[0]["image"]]


def changed(section: str, **values: Any) -> Callable[[Any], Any]:
    return lambda run: run | {section: run[section] | values}


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("run.json", changed("identity", seed=1), "seed is 0 there, 1 now"),
        ("run.json", changed("identity", batch_size=16), "batch_size"),
        ("run.json", changed("images", listing="other"), "the folder's images differ"),
        ("run.json", changed("config", shard="1/3"), "both are shard 1/3"),
        ("run.json", changed("config", soundness="off"), "soundness differ"),
        ("run.json", changed("config", fail_under=["40"]), "fail-under differ"),
        ("run.json", changed("config", shard="2/4"), "is part of 4"),
        ("run.json", changed("config", shard=None), "is no shard"),
        ("run.json", lambda run: run | {"phases": []}, "phases differ"),
        (
            "run.json",
            changed("images", time_budget={"seconds": 1, "images": 3, "of": 8}),
            "a time budget left images out",
        ),
        ("results.jsonl", lambda lines: without_first(lines), "22 images of --limit 23"),
    ],
)
def test_what_does_not_belong_together_is_refused(
    parts: list[Path], tmp_path: Path, file: str, change: Callable[[Any], Any], message: str
) -> None:
    copies = edited(parts, tmp_path / "copies", file, change)
    with pytest.raises(RunError) as refused:
        merge_runs(copies, tmp_path / "merged")
    assert message in refused.value.message
    assert not (tmp_path / "merged").exists()


def test_a_folder_that_is_not_covered_is_refused(parts: list[Path], tmp_path: Path) -> None:
    """Without a limit, the images must be just those that the folder had."""
    copies = []
    for part in parts:
        copy = Path(shutil.copytree(part, tmp_path / part.name))
        run = json.loads((copy / "run.json").read_text())
        (copy / "run.json").write_text(json.dumps(changed("config", limit=None)(run)))
        copies.append(copy)
    with pytest.raises(RunError, match="cover 23 images, and not just the 364"):
        merge_runs(copies, tmp_path / "merged")


def test_missing_unfinished_and_repeated_shards_are_refused(
    parts: list[Path], tmp_path: Path
) -> None:
    out = tmp_path / "merged"
    with pytest.raises(RunError, match="1 of 3 shards are missing: 2/3"):
        merge_runs([parts[0], parts[2]], out)
    copy = Path(shutil.copytree(parts[1], tmp_path / "copy"))
    with pytest.raises(RunError, match="both are shard 2/3"):
        merge_runs([*parts, copy], out)
    (copy / "summary.json").unlink()
    with pytest.raises(RunError, match="not finished"):
        merge_runs([parts[0], copy, parts[2]], out)
    with pytest.raises(RunError, match="holds a run already"):
        merge_runs(parts, parts[0])
    assert not out.exists()


def test_an_image_in_two_shards_is_refused(parts: list[Path], tmp_path: Path) -> None:
    first = lines_of(parts[0])[0]
    copies = edited(parts, tmp_path / "copies", "results.jsonl", lambda lines: [first, *lines])
    with pytest.raises(RunError, match=r"is in .* and in"):
        merge_runs(copies, tmp_path / "merged")


def test_a_merged_run_has_its_own_gates(
    parts: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """23 images, all of them fooled or not: 0 % cannot be in the interval of what stands."""
    asked = [
        "merge",
        *map(str, parts),
        "--fail-under",
        "1",
        "--fail-under",
        "99",
        "--format",
        "json",
    ]
    report = tmp_path / "x.html"
    assert exits.run([*asked, "--out", str(tmp_path / "a"), "-r", str(report)]) == 1
    found = json.loads(capsys.readouterr().out)
    assert [gate["verdict"] for gate in found["gates"]] == ["pass", "fail"]
    assert report.exists()
    value = 100 * found["gates"][0]["value"]
    near = ["merge", *map(str, parts), "--fail-under", f"{value + 0.5:.1f}", "--confident"]
    assert exits.run([*near, "--out", str(tmp_path / "b")]) == 3
    assert "more images would settle it" in capsys.readouterr().out


# --- time budget


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("10m", 600), ("1h30m", 5400), ("0.5h", 1800), ("2H", 7200)]
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds
    assert parse_duration(shown_duration(seconds)) == seconds


@pytest.mark.parametrize("text", ["10", "", "0s", "m", "10x", "-5m", "5m10h"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(UsageError):
        parse_duration(text)


class Clock:
    """A second passes each time it is asked."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


def test_a_deadline_passes_everything_on_until_it_is_over() -> None:
    inner = Watcher()
    deadline = Deadline(inner, 3.0, Clock())
    for done in (1, 2, 3):
        deadline.advance(done, None)
    with pytest.raises(TimeIsUpError):
        deadline.advance(4, None)
    with pytest.raises(TimeIsUpError):
        deadline.begin("pgd", 4)
    assert [done for done, _ in inner.steps] == [1, 2, 3]


def test_the_completed_blocks_are_the_sample_that_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock stands for the work done: what a block costs decides, not this machine."""
    root = tmp_path / "run"
    began: list[Any] = []

    class Ends(Deadline):
        """Over in the middle of the third block."""

        def begin(self, title: str, total: int) -> None:
            began.append((title, total))
            if len(began) == 6:
                raise TimeIsUpError
            super().begin(title, total)

    monkeypatch.setattr("advcli.audit.run.Deadline", Ends)
    summary = execute(config(time_budget=1e6), Watcher(), out=root).summary
    assert [title for title, _ in began] == ["clean", "fgsm"] * 3
    assert summary["images"]["evaluated"] == 2 * BLOCK
    assert summary["images"]["time_budget"] == {"seconds": 1e6, "images": 2 * BLOCK, "of": 364}
    assert summary["clean"]["total"] == summary["attacks"][0]["total"] == 2 * BLOCK
    assert len({image.partition("/")[0] for image in counted(root)}) == 10  # not the first classes
    assert verify(root).exit_code == 0
    # with more time the same images and others, and nothing anew
    before = (root / "results.jsonl").read_bytes()
    monkeypatch.undo()
    more = execute(config(), Watcher(), out=root, resume=True).summary
    assert more["images"]["evaluated"] == 364
    assert more["images"]["time_budget"] is None
    assert (root / "results.jsonl").read_bytes().startswith(before)
    whole = execute(config(), Watcher()).summary
    assert figures(more) == figures(whole)


def counted(root: Path) -> list[str]:
    selected: list[str] = RunDirectory(root).read_run()["images"]["selected"]
    return selected


def test_no_block_in_time_is_no_verdict(tmp_path: Path) -> None:
    with pytest.raises(NoVerdictError, match="before the first 64 images"):
        execute(config(time_budget=1e-9), Watcher(), out=tmp_path / "run")


@pytest.mark.parametrize("option", [{"shard": "1/2"}, {"time_budget": 60.0}])
def test_what_learns_from_the_whole_folder_has_no_parts(option: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="learns from the whole folder"):
        execute(config(attacks=("universal",), **option), Watcher())
    with pytest.raises(UsageError, match="starts from another image"):
        execute(config(attacks=("hopskipjump",), targeted="3", **option), Watcher())


def test_a_part_without_images_is_refused() -> None:
    with pytest.raises(UsageError, match="no image is left"):
        execute(config(limit=2, shard="3/3"), Watcher())


# --- runs that were stopped


def stopped(tmp_path: Path, lines: list[dict[str, Any]], phases: list[Any]) -> dict[str, Any]:
    directory = RunDirectory(tmp_path / "run")
    with directory.lock(), directory.journal() as journal:
        for line in lines:
            journal.append(line)
    run = run_of(phases, fail_under=("90",))
    run["images"]["count"] = 10
    directory.write_run(run)
    return summary_of(directory)


def test_an_attack_in_progress_is_left_out(tmp_path: Path) -> None:
    """Of those that fell early every image answered; as a sample they would all be broken."""
    phases = [
        phase("pgd", cascade=True),
        phase("square", cascade=True),
        phase("fgsm", cascade=True),
    ]
    lines = [clean(f"{i}.png", 0, 0) for i in range(10)]
    lines += [answer(f"{i}.png", int(i < 4), success=i < 4) for i in range(10)]
    lines += [answer("4.png", 1, success=True, attack="square")]
    summary = stopped(tmp_path, lines, phases)
    assert [row["attack"] for row in summary["attacks"]] == ["pgd"]
    assert summary["worst_case"][0]["robust_accuracy"] == 0.6
    assert summary["soundness"]["verdict"] == "suspect"
    (detail,) = (
        f["detail"] for f in summary["soundness"]["findings"] if f["check"] == "unfinished"
    )
    assert "square, fgsm" in detail
    assert (summary["verdict"], summary["exit_code"]) == ("fail", 1)  # 60 % is an upper bound


def test_stopped_among_the_clean_images_nothing_is_known(tmp_path: Path) -> None:
    """The first class's images, one a mistake: no attack has had anything to answer."""
    directory = RunDirectory(tmp_path / "run")
    with directory.lock(), directory.journal() as journal:
        journal.append(clean("0.png", 0, 1))
    run = run_of([phase("pgd")], fail_under=("90",))
    run["images"] |= {"count": 10, "complete": False}
    directory.write_run(run)
    summary = summary_of(directory)
    assert summary["attacks"] == []
    assert (summary["verdict"], summary["exit_code"]) == ("inconclusive", 3)


def test_nothing_but_clean_images_is_no_verdict(tmp_path: Path) -> None:
    lines = [clean(f"{i}.png", 0, 0) for i in range(10)] + [answer("0.png", 1, success=True)]
    summary = stopped(tmp_path, lines, [phase("pgd")])
    assert summary["attacks"] == summary["worst_case"] == []
    assert summary["clean"]["accuracy"] == 1.0
    assert (summary["verdict"], summary["exit_code"]) == ("inconclusive", 3)

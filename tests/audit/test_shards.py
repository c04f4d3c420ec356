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
from advcli.audit.journal import finite
from advcli.audit.merge import merge_runs
from advcli.audit.plan import AuditConfig
from advcli.audit.record import read_record
from advcli.audit.run import execute
from advcli.audit.shards import parse_shard
from advcli.audit.unfinished import summary_of
from advcli.audit.verify import verify
from advcli.cli import exits
from advcli.errors import NoVerdictError, RunError, UsageError
from advcli.images.sample import Shard

from ..reports.standards import check_summary
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
    assert verify(tmp_path / "merged", replay=4).mismatches == []
    again = execute(config(limit=23), Watcher(), out=tmp_path / "merged", resume=True).summary
    assert figures(again) == figures(whole)
    for summary in (merged, again):
        check_summary(finite(summary))


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


def test_a_shard_that_ran_out_of_memory_belongs_to_the_others(
    parts: list[Path], tmp_path: Path
) -> None:
    """What batch sizes answered in any shard is told to a replay."""
    shrunk = lambda run: changed("identity", batch_size=4)(run) | {"shrunk_from": [8]}  # noqa: E731
    merge_runs(edited(parts, tmp_path / "a", "run.json", shrunk), tmp_path / "merged")
    assert RunDirectory(tmp_path / "merged").read_run()["shrunk_from"] == [4]
    begun = lambda run: changed("identity", batch_size=8)(run) | {"shrunk_from": [16]}  # noqa: E731
    with pytest.raises(RunError, match="batch_size is 8 there, 16 now"):
        merge_runs(edited(parts, tmp_path / "b", "run.json", begun), tmp_path / "refused")


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


def test_a_merge_on_github(
    parts: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    page = tmp_path / "page.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(page))
    asked = ["merge", *map(str, parts), "--fail-under", "99", "--out", str(tmp_path / "a")]
    assert exits.run([*asked, "--format", "github"]) == 1
    assert capsys.readouterr().out.startswith("::error ")
    assert "worst case" in page.read_text()
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path))  # a folder
    asked[-1] = str(tmp_path / "b")
    assert exits.run([*asked, "-q"]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "note: GITHUB_STEP_SUMMARY" in printed.err


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


@pytest.fixture(scope="module")
def budgeted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run whose time was over in the middle of its third block (`run`), and with
    what a kill at the beginning of its n-th pass would have left (`n`)."""
    folder = tmp_path_factory.mktemp("budgeted")
    began: list[str] = []

    class Ends(Deadline):
        """The clock stands for the work done: what a block costs decides, not this machine."""

        def begin(self, title: str, total: int) -> None:
            shutil.copytree(folder / "run", folder / str(len(began)))
            began.append(title)
            if len(began) == 6:
                raise TimeIsUpError
            super().begin(title, total)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("advcli.audit.run.Deadline", Ends)
        execute(config(time_budget=1e6), Watcher(), out=folder / "run")
    assert began == ["clean", "fgsm"] * 3
    return folder


def copied(root: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(root, tmp_path / "run"))


def test_the_completed_blocks_are_the_sample_that_counts(budgeted: Path, tmp_path: Path) -> None:
    root = copied(budgeted / "run", tmp_path)
    summary = RunDirectory(root).read_summary()
    assert summary["images"]["evaluated"] == 2 * BLOCK
    assert summary["images"]["time_budget"] == {"seconds": 1e6, "images": 2 * BLOCK, "of": 364}
    assert summary["clean"]["total"] == summary["attacks"][0]["total"] == 2 * BLOCK
    assert len({image.partition("/")[0] for image in counted(root)}) == 10  # not the first classes
    assert verify(root, replay=4).mismatches == []
    # with more time the same images and others, and nothing anew
    before = (root / "results.jsonl").read_bytes()
    more = execute(config(), Watcher(), out=root, resume=True).summary
    assert more["images"]["evaluated"] == 364
    assert more["images"]["time_budget"] is None
    assert (root / "results.jsonl").read_bytes().startswith(before)
    whole = execute(config(), Watcher()).summary
    assert figures(more) == figures(whole)
    for one in (summary, more):
        check_summary(finite(one))


def test_what_is_answered_counts_however_little_time_there_is(
    budgeted: Path, tmp_path: Path
) -> None:
    """Two blocks have all answers, the third has none to the attack that was to come."""
    root = copied(budgeted / "run", tmp_path)
    before, journal = RunDirectory(root).read_summary(), (root / "results.jsonl").read_bytes()
    again = execute(config(time_budget=1e-9), Watcher(), out=root, resume=True).summary
    again["images"]["time_budget"]["seconds"] = 1e6
    assert figures(again) == figures(before)
    assert (root / "results.jsonl").read_bytes() == journal
    with pytest.raises(NoVerdictError, match="before the first 64 images"):
        execute(
            config(time_budget=1e-9, eps=(0.1,)),
            Watcher(),
            out=root,
            resume=True,
            given=frozenset({"eps"}),
        )


@pytest.mark.parametrize(("moment", "blocks"), [(1, 0), (2, 1), (3, 1), (4, 2), (5, 2)])
def test_a_time_budget_that_was_killed(
    budgeted: Path, tmp_path: Path, moment: int, blocks: int
) -> None:
    """The figures of the blocks that were through, whichever pass of the next was under way."""
    root = copied(budgeted / str(moment), tmp_path)
    summary = finite(summary_of(RunDirectory(root)))
    check_summary(summary)
    (detail,) = unfinished(summary)
    assert (summary["verdict"], summary["exit_code"]) == ("inconclusive", 3)
    assert [row["total"] for row in summary["attacks"]] == [64 * blocks] * bool(blocks)
    if blocks == 2:
        run = RunDirectory(budgeted / "run").read_summary()
        for key in ("clean", "worst_case", "per_class", "confusion"):
            assert summary[key] == run[key]
    if blocks:
        assert f"stopped after {64 * blocks} of 364 images were through" in detail
    else:
        assert "64 of 364 images were read; left out, as they had not been through: fgsm" in detail


def test_half_a_time_budget_fails_no_gate(budgeted: Path, tmp_path: Path) -> None:
    """The other blocks may do better: these are no upper bound."""
    directory = RunDirectory(copied(budgeted / "4", tmp_path))
    run = directory.read_run()
    waived = {"gate": "99", "accept": {"until": "2999-01-01", "reason": "known"}}
    run["config"] |= {"fail_under": ["99"], "gates": [waived]}
    directory.write_run(run)
    summary = summary_of(directory)
    check_summary(summary)
    assert [gate["verdict"] for gate in summary["gates"]] == ["inconclusive"] * 2
    assert summary["gates"][1]["waiver"]["state"] == "undecided"
    assert (summary["verdict"], summary["exit_code"]) == ("inconclusive", 3)


def part_of(root: Path, copy: Path, images: list[str]) -> Path:
    """A copy of a finished run that is about these images alone."""
    directory = RunDirectory(Path(shutil.copytree(root, copy)))
    run = directory.read_run()
    run["images"]["selected"] = images
    directory.write_run(run)
    return copy


def test_a_baseline_is_paired_with_every_block(budgeted: Path, tmp_path: Path) -> None:
    root = copied(budgeted / "run", tmp_path)
    later = counted(root)[BLOCK:]
    asked = {
        "time_budget": 1e-9,
        "baseline": str(part_of(root, tmp_path / "later", later)),
        "max_drop": 0.0,
    }
    given = frozenset({"baseline", "max_drop"})
    found = execute(config(**asked), Watcher(), out=root, resume=True, given=given).summary
    assert found["baseline"]["images"]["paired"] == len(later)
    assert found["baseline"]["images"]["only_new"] == BLOCK
    # images of the folder that no block came to: no comparison, and no verdict
    journal = RunDirectory(budgeted / "run").ledger()
    unseen = [image for image in journal.clean if image not in counted(root)]
    asked["baseline"] = str(part_of(root, tmp_path / "unseen", unseen))
    with pytest.raises(NoVerdictError, match="none of its images"):
        execute(config(**asked), Watcher(), out=root, resume=True, given=given)
    # and images of another folder are refused before anything is asked of the model
    directory = RunDirectory(Path(asked["baseline"]))
    lines = [line | {"sha256": f"{line['image']}"} for line in lines_of(directory.root)]
    directory.journal_file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(RunError, match="none of its images"):
        execute(config(**asked | {"time_budget": 1e6}), Watcher(), out=tmp_path / "fresh")
    assert not (tmp_path / "fresh").exists()


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


def test_a_part_without_images_is_refused() -> None:
    with pytest.raises(UsageError, match="no image is left"):
        execute(config(limit=2, shard="3/3"), Watcher())


# --- runs that were stopped


def unfinished(summary: dict[str, Any]) -> list[str]:
    findings = summary["soundness"]["findings"]
    return [found["detail"] for found in findings if found["check"] == "unfinished"]


def stopped(
    tmp_path: Path,
    lines: list[dict[str, Any]],
    phases: list[Any],
    *,
    complete: bool = True,
    **config: Any,
) -> dict[str, Any]:
    directory = RunDirectory(tmp_path / "run")
    with directory.lock(), directory.journal() as journal:
        for line in lines:
            journal.append(line)
    run = run_of(phases, **{"fail_under": ("90",)} | config)
    run["images"] |= {"count": 364, "complete": complete}
    run["model"] |= {"keras_version": None, "rules": [], "input_shape": [8, 8, 1]}
    directory.write_run(run)
    summary: dict[str, Any] = finite(summary_of(directory))
    return summary


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
    (detail,) = unfinished(summary)
    assert "square, fgsm" in detail
    assert (summary["verdict"], summary["exit_code"]) == ("fail", 1)  # 60 % is an upper bound


def test_stopped_among_the_clean_images_nothing_is_known(tmp_path: Path) -> None:
    """The first class's images, one a mistake: no sample, and no attack has had one to answer."""
    lines = [clean(f"{i}.png", 0, int(i == 0)) for i in range(3)]
    gates = ("90", "clean=90", "clean=10", "pgd=50", "class:c0=50")
    summary = stopped(tmp_path, lines, [phase("pgd")], complete=False, fail_under=gates, limit=60)
    assert summary["attacks"] == summary["worst_case"] == summary["per_class"] == []
    assert (summary["clean"]["accuracy"], summary["clean"]["total"]) == (None, 0)
    assert {gate["verdict"] for gate in summary["gates"]} == {"inconclusive"}
    assert (summary["verdict"], summary["exit_code"]) == ("inconclusive", 3)
    assert "stopped after 3 of 60 images were read" in unfinished(summary)[0]


@pytest.mark.parametrize(
    ("config", "asked"), [({"limit": 60}, 60), ({"limit": 60, "shard": "3/7"}, 9), ({}, 364)]
)
def test_how_many_images_there_were_to_be(
    tmp_path: Path, config: dict[str, Any], asked: int
) -> None:
    summary = stopped(tmp_path, [clean("0.png", 0, 0)], [phase("pgd")], **config)
    assert f"stopped after 1 of {asked} images" in unfinished(summary)[0]


def test_a_budget_that_was_through_has_its_figures(tmp_path: Path) -> None:
    """A finished run was extended by a larger eps and stopped: what was known is still known."""
    phases = [phase("pgd", eps=(0.1, 0.2)), phase("square", eps=(0.1, 0.2))]
    lines = [clean(f"{i}.png", 0, 0) for i in range(10)]
    for spec, fooled in (("pgd", 4), ("square", 2)):
        lines += [answer(f"{i}.png", 1, success=i < fooled, attack=spec) for i in range(10)]
    lines += [answer(f"{i}.png", 1, success=True, eps=0.2) for i in range(5)]
    summary = stopped(tmp_path, lines, phases, fail_under=("linf@0.2=90", "pgd@0.1=60"))
    rows = [(row["attack"], row["eps"], row["robust"]) for row in summary["attacks"]]
    assert rows == [("pgd", 0.1, 6), ("square", 0.1, 8)]
    assert [row["robust_accuracy"] for row in summary["worst_case"]] == [0.6]
    assert "pgd at linf 51/255, square at linf 51/255" in unfinished(summary)[0]
    assert [gate["doubt"] for gate in summary["gates"]] == ["no images", "suspect"]


def test_a_run_with_more_images_under_way_is_still_the_run_it_was(
    parts: list[Path], tmp_path: Path
) -> None:
    """Stopped when the journal knew other images, first a few and then all of them."""
    root = copied(parts[0], tmp_path)
    before, known = read_record(RunDirectory(root)).summary, len(lines_of(root))

    class Stopping(Watcher):
        def __init__(self, *, clean: bool) -> None:
            super().__init__()
            self.clean = clean

        def begin(self, title: str, total: int) -> None:
            if title != "clean":
                raise KeyboardInterrupt

        def advance(self, done: float, standing: int | None) -> None:
            if self.clean and len(lines_of(root)) > known:
                raise KeyboardInterrupt

    def go_on(watcher: Watcher) -> None:
        more = config(limit=90, shard="1/3")
        with pytest.raises(KeyboardInterrupt):
            execute(more, watcher, out=root, resume=True, given=frozenset({"limit"}))

    go_on(Stopping(clean=True))
    assert summary_of(RunDirectory(root)) == read_record(RunDirectory(root)).summary == before
    go_on(Stopping(clean=False))
    summary = finite(summary_of(RunDirectory(root)))
    check_summary(summary)
    assert "stopped after 30 of 30 images were read; left out" in unfinished(summary)[0]
    assert summary["clean"]["total"] == 30


def test_nothing_but_clean_images_is_no_verdict(tmp_path: Path) -> None:
    lines = [clean(f"{i}.png", 0, 0) for i in range(10)] + [answer("0.png", 1, success=True)]
    summary = stopped(tmp_path, lines, [phase("pgd")])
    assert summary["attacks"] == summary["worst_case"] == []
    assert summary["clean"]["accuracy"] == 1.0
    assert (summary["verdict"], summary["exit_code"]) == ("inconclusive", 3)

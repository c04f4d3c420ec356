"""Evidence in words, as Markdown: names of files and classes cannot break out of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from advcli.audit.journal import dumps
from advcli.reports import figures
from advcli.reports.markdown import escaped, pipe_table
from advcli.threats.budget import format_eps

__all__ = ["render"]


def render(facts: Mapping[str, Any], summary: dict[str, Any]) -> str:
    """`facts`: what evidence.json holds."""
    return "\n".join(_lines(facts, summary)) + "\n"


def _lines(facts: Mapping[str, Any], summary: dict[str, Any]) -> Iterator[str]:
    log = facts["test_log"]
    yield "# Evidence of a robustness audit"
    yield ""
    yield (
        f"**{escaped(figures.verdict(summary))}** · figures are {facts['soundness']} · "
        f"exit code {facts['exit_code']}"
    )
    yield ""
    yield (
        f"Model {escaped(summary['model']['path'])}, sha256 {facts['hashes']['model']}; "
        f"{summary['images']['evaluated']} images; finished {escaped(log['finished'])}."
    )
    yield ""
    yield (
        "This folder records what was tested and how. It does not state that any requirement is "
        "met. It is dated by the run and not signed: a signature of MANIFEST.sha256, which has the "
        "hash of every other file, covers all of it; `sha256sum -c MANIFEST.sha256` checks them. "
        "The figures are in figures.md, for programs in figures.csv and summary.json."
    )
    yield from _log(log)
    yield from _configuration(facts["configuration"])
    yield from _hashes(facts["hashes"], summary)
    yield from _section("Tested", [escaped(text) for text in facts["tested"]])
    missing = [f"**{escaped(r['topic'])}**: {escaped(r['detail'])}" for r in facts["not_tested"]]
    yield from _section("Not tested", missing)
    findings = [
        f"**{f['verdict']}** {escaped(f['check'])}: {escaped(f['detail'])}"
        for f in facts["findings"]
    ]
    yield from _section("Whether the attacks can be believed", findings or ["nothing was found"])
    yield from _section("Gates", list(map(_gate, facts["gates"])) or ["no gate was set"])
    yield from _section("Limits", [escaped(text) for text in facts["limits"]])
    yield from _mapping(facts)


def _section(title: str, items: Sequence[str]) -> Iterator[str]:
    yield from ("", f"## {title}", "")
    yield from (f"- {item}" for item in items)


def _gate(gate: dict[str, Any]) -> str:
    said = [figures.gate_text(gate), figures.waiver(gate)]
    detail = escaped("; ".join(filter(None, said)))
    return f"**{gate['verdict']}** {escaped(figures.gate_name(gate))}: {detail}"


def _log(log: Mapping[str, Any]) -> Iterator[str]:
    yield from ("", "## Test log", "")
    facts = {
        "started": log["started"],
        "finished": log["finished"],
        "command": log["command"],
        "in folder": log["folder"],
        "device": log["device"],
        "merged from": ", ".join(f"shard {part['shard']}" for part in log["merged"] or ()),
        **log["versions"],
    }
    yield from pipe_table(["", ""], [[escaped(k), escaped(v)] for k, v in facts.items() if v])
    yield ""
    rows = []
    for phase in log["phases"]:
        at = ", ".join(map(format_eps, phase["eps"]))
        rows.append(
            [
                escaped(phase["attack"]),
                f"{phase['norm']} {at}".strip() if phase["norm"] else "no norm",
                _seconds(phase["seconds"]),
                _seconds(phase["model_seconds"]),
                str(phase["answers"]),
                str(phase["errors"]),
            ]
        )
    head = ["phase", "budget", "seconds", "in the model", "answers", "errors"]
    yield from pipe_table(head, rows)


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _configuration(config: Mapping[str, Any]) -> Iterator[str]:
    yield from ("", "## Configuration in force", "")
    rows = [
        [escaped(key.replace("_", "-")), escaped(_plain(value))]
        for key, value in config.items()
        if value is not None and value is not False and value != []
    ]
    yield from pipe_table(["option", "value"], rows)
    yield from ("", "Options that are not named were off or empty; run.json has all of them.")


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_plain, value))
    return value if isinstance(value, str) else dumps(value)


def _hashes(hashes: Mapping[str, Any], summary: Mapping[str, Any]) -> Iterator[str]:
    yield from ("", "## Hashes (SHA-256)", "")
    rows = [[escaped(summary["model"]["path"]), hashes["model"]]]
    rows += [[escaped(name), digest] for name, digest in hashes["run"].items()]
    yield from pipe_table(["file", "sha256"], rows)
    yield ""
    yield (
        f"Pixels of {len(hashes['pixels'])} images: images.csv. "
        f"{len(hashes['written'])} files that the run wrote: evidence.json, `hashes.written`."
    )


def _mapping(facts: Mapping[str, Any]) -> Iterator[str]:
    yield from ("", "## What this is relevant to", "")
    yield "Relevant, not sufficient: no row says that a requirement is met."
    yield ""
    rows = []
    for row in facts["requirements"]:
        reference = f"{row['framework']}, {row['reference']}"
        files = ", ".join(row["files"]) or "–"
        rows.append([reference, escaped(row["subject"]), escaped(row["evidence"]), files])
    yield from pipe_table(["requirement", "asks about", "evidence here", "files"], rows)
    yield from ("", "Attacks as techniques of MITRE ATLAS:", "")
    rows = []
    for row in facts["techniques"]["attacks"]:
        named = "; ".join(_technique(found) for found in row["techniques"])
        rows.append([escaped(row["attack"]), row["norm"] or "no norm", named])
    yield from pipe_table(["attack", "norm", "technique"], rows)
    unused = "; ".join(map(_technique, facts["techniques"]["not_exercised"]))
    yield from ("", f"Ways of crafting that were not exercised: {unused}.", "", "Sources:", "")
    yield from (f"- {name}: {escaped(source)}" for name, source in facts["sources"].items())


def _technique(found: Mapping[str, str]) -> str:
    return f"{found['id']} {found['name']}"

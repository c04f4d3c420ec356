"""The README's recipes for CI do what they say: in a repository with a model and images, under
bash's strict mode, with `pip` replaced by a stand-in and without a network.

The shell recipe audits for real. In the others `advcli` is the real command line on a finished run:
every option, variable and key is read, every report written, and only the attacks are left out.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema
import pytest
from packaging.requirements import Requirement
from ruamel.yaml import YAML

import advcli

from ..reports.standards import check_junit, check_sarif
from ..reports.test_evidence import FILES
from .support import SAMPLES, environment

ROOT = Path(__file__).parents[2]
LIMIT = 8
STAND_IN = """
import json, os, sys
from pathlib import Path
from advcli.audit import run as auditing
from advcli.audit.directory import RunDirectory
from advcli.cli import exits

def execute(config, watcher, *, out, **given):
    code = int(os.environ["STAND_IN_CODE"])
    if code == 3:
        raise auditing.NoVerdictError("out of memory", "use --resume")
    finished = RunDirectory(Path(os.environ["STAND_IN_RUN"]))
    summary = finished.read_summary()
    gate = dict(summary["gates"][0], verdict=("pass", "fail")[code])
    summary |= {"gates": [gate], "verdict": gate["verdict"], "exit_code": code}
    out.mkdir(parents=True)
    made = RunDirectory(out)
    made.write_run(finished.read_run() | {"config": config.model_dump(mode="json")})
    made.write_summary(summary)
    return auditing.Result(summary, out)

auditing.execute = execute
sys.exit(exits.run(sys.argv[1:]))
"""


class Done(NamedTuple):
    code: int
    out: str
    err: str


def fenced(kind: str, start: str) -> str:
    """The README's one block of this kind that contains `start`."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```(\w+)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    (found,) = [block for language, block in blocks if language == kind and start in block]
    return str(found)


def yaml(text: str) -> Any:
    return YAML(typ="safe", pure=True).load(text)


GITHUB = fenced("yaml", "runs-on")
GITLAB = fenced("yaml", "artifacts:")
SHELL = fenced("sh", "--evidence robustness/evidence")
CONFIG = fenced("toml", 'eps = "4/255"')


def repository_in(folder: Path) -> Path:
    """A model, two images of each class, the README's configuration; `pip` and `advcli` beside."""
    root = folder / "repository"
    root.mkdir(parents=True)
    shutil.copy(SAMPLES / "cnn.h5", root / "model.h5")
    for pictures in (SAMPLES / "images").iterdir():
        (root / "test-images" / pictures.name).mkdir(parents=True)
        for image in sorted(pictures.iterdir())[:2]:
            shutil.copy(image, root / "test-images" / pictures.name)
    (root / "advcli.toml").write_text(CONFIG)
    tools = folder / "bin"
    tools.mkdir()
    tool(tools / "pip", f'printf "%s\\n" "$@" >> {shlex.quote(str(folder / "pip"))}')
    tool(tools / "advcli", f'exec {shlex.quote(sys.executable)} -m advcli "$@"')
    return root


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return repository_in(tmp_path)


def tool(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def stand_in(repository: Path) -> None:
    script = repository.parent / "stand_in.py"
    script.write_text(STAND_IN)
    call = shlex.join([sys.executable, str(script)])
    tool(repository.parent / "bin" / "advcli", f'exec {call} "$@"')


def bash(script: str, repository: Path, **variables: str) -> Done:
    path = f"{repository.parent / 'bin'}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        capture_output=True,
        text=True,
        timeout=170,
        cwd=repository,
        env=environment(PATH=path, PYTHONPATH=str(ROOT), **variables),
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Done]:
    """The shell recipe, once for real, with a small preset and a few images."""
    root = repository_in(tmp_path_factory.mktemp("shell"))
    more = {"ADVCLI_LIMIT": str(LIMIT), "ADVCLI_PRESET": "quick", "TF_CPP_MIN_LOG_LEVEL": "3"}
    return root, bash(SHELL, root, **more)


def test_the_shell_recipe_audits_and_keeps_the_evidence(audited: tuple[Path, Done]) -> None:
    root, done = audited
    summary = json.loads((root / "robustness/run/summary.json").read_text())
    assert done.code == summary["exit_code"] == 0, done.err
    assert done.out.splitlines()[-1] == "robust enough"
    assert summary["clean"]["total"] == LIMIT
    assert [gate["gate"] for gate in summary["gates"]] == ["40", "clean=95"]
    assert (root / "robustness/report.md").read_text().startswith("# Robustness")
    assert {path.name for path in (root / "robustness/evidence").iterdir()} == FILES


def test_the_shell_recipe_ends_as_the_audit_did(audited: tuple[Path, Done], tmp_path: Path) -> None:
    run = audited[0] / "robustness" / "run"
    said = {1: "not robust enough", 2: "", 3: "no verdict: look at the findings"}
    for code, words in said.items():
        root = repository_in(tmp_path / str(code))
        make = f"mkdir -p robustness && cp -r {shlex.quote(str(run))} robustness/" * (code == 1)
        call = shlex.join([sys.executable, "-m", "advcli"])
        tool(
            root.parent / "bin" / "advcli",
            f'[ "$1" = report ] && exec {call} "$@"\n{make}\nexit {code}',
        )
        done = bash(SHELL, root)
        assert done.code == code, done.err
        assert words in done.out
        assert (root / "robustness/evidence/evidence.md").exists() == (code == 1)


def always(condition: str) -> bool:
    return condition.startswith("always()")


@pytest.mark.parametrize("code", [0, 1, 3])
def test_the_github_recipe(repository: Path, audited: tuple[Path, Done], code: int) -> None:
    stand_in(repository)
    (job,) = yaml(GITHUB)["jobs"].values()
    variables = {
        "STAND_IN_CODE": str(code),
        "STAND_IN_RUN": str(audited[0] / "robustness" / "run"),
        "GITHUB_STEP_SUMMARY": str(repository.parent / "page"),
    }
    codes = []
    for step in job["steps"]:
        if "run" in step and not any(codes):
            codes.append(bash(step["run"], repository, **variables).code)
        elif step["uses"].startswith("actions/upload-artifact@"):
            assert always(step["if"])
            check_artifacts(repository, [step["with"]["path"]], complete=code != 3)
        elif step["uses"].startswith("github/codeql-action/upload-sarif@"):
            file = step["with"]["sarif_file"]
            assert step["if"] == f"always() && hashFiles('{file}') != ''"
            assert (repository / file).exists() == (code != 3)
            if code != 3:
                text = (repository / file).read_text()
                check_sarif(text)
                assert '"uri": "model.h5"' in text or code == 0
    assert codes == [0, code]
    check_pip(repository)
    if code != 3:
        assert "# Robustness" in (repository.parent / "page").read_text()
        check_asked(repository)


@pytest.mark.parametrize("code", [0, 1, 3])
def test_the_gitlab_recipe(repository: Path, audited: tuple[Path, Done], code: int) -> None:
    stand_in(repository)
    (job,) = yaml(GITLAB).values()
    more = {"STAND_IN_CODE": str(code), "STAND_IN_RUN": str(audited[0] / "robustness" / "run")}
    done = bash("\n".join(job["script"]), repository, **more)
    assert done.code == code, done.err
    check_pip(repository)
    artifacts = job["artifacts"]
    assert artifacts["when"] == "always"
    check_artifacts(repository, artifacts["paths"], complete=code != 3)
    if code != 3:
        check_junit((repository / artifacts["reports"]["junit"]).read_text())
        check_asked(repository)


def check_artifacts(repository: Path, paths: list[str], *, complete: bool) -> None:
    """What the recipe uploads is there; of a run that broke off nothing has to be."""
    for path in paths:
        assert (repository / path).is_dir() == complete
        if complete:
            names = {file.name for file in (repository / path).iterdir()}
            assert {"run", "report.html", "report.junit.xml"} <= names


def check_asked(repository: Path) -> None:
    """What the file says reached the audit."""
    config = json.loads((repository / "robustness/run/run.json").read_text())["config"]
    assert config["fail_under"] == ["40", "clean=95"]
    assert config["eps"] == [pytest.approx(4 / 255)]
    assert config["preprocess"] == "unit"


def check_pip(repository: Path) -> None:
    command, wanted = (repository.parent / "pip").read_text().split()
    assert command == "install"
    requirement = Requirement(wanted)
    assert requirement.name == "advcli"
    assert requirement.specifier.contains(advcli.__version__, prereleases=True)
    assert not requirement.specifier.contains("1.0")


@pytest.mark.parametrize(
    ("text", "schema"), [(GITHUB, "github-workflows.json"), (GITLAB, "gitlab-ci.json")]
)
def test_the_recipes_are_what_the_services_read(text: str, schema: str) -> None:
    """By the schemas that check-jsonschema ships."""
    found = json.loads(
        files("check_jsonschema")
        .joinpath("builtin_schemas", "vendor", schema)
        .read_text(encoding="utf-8")
    )
    validator = jsonschema.validators.validator_for(found)(found)
    document = yaml(text)
    assert [error.message for error in validator.iter_errors(document)] == []
    broken = text.replace("runs-on:", "run-on:").replace("script:", "scripts:")
    assert not validator.is_valid(yaml(broken))

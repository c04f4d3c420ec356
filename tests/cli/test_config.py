"""The configuration file: what it says arrives, in its order of precedence, or is refused."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import click
import pytest

from advcli.cli import exits
from advcli.cli.config_schema import CONFIGURED, keys_of, shown_default
from advcli.cli.configured import stated_of

from .support import shell
from .test_startup import HEAVY, child


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # the test run's own handlers stay
    for name in [name for name in os.environ if name.startswith("ADVCLI_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def arrived(monkeypatch: pytest.MonkeyPatch) -> Any:
    """`arrived(toml, *arguments)`: the options that reach the command, and its context."""
    calls: list[tuple[click.Context, dict[str, Any]]] = []

    def run_audit(ctx: click.Context, command: str, options: dict[str, Any]) -> int:
        calls.append((ctx, options))
        return 0

    monkeypatch.setattr("advcli.cli.running.run_audit", run_audit)

    def call(toml: str, *arguments: str, command: str = "evaluate") -> dict[str, Any]:
        Path("advcli.toml").write_text(toml, encoding="utf-8")
        assert exits.run([command, *arguments]) == 0
        call.ctx = calls[-1][0]  # type: ignore[attr-defined]
        return calls[-1][1]

    return call


@pytest.mark.parametrize(
    ("key", "in_file", "variable", "flag", "values"),
    [  # values: of the flag, the variable, the file and the default
        ("limit", "5", "6", "7", (7, 6, 5, None)),
        ("seed", "5", "6", "7", (7, 6, 5, 0)),
        ("resize", '"crop"', "pad", "stretch", ("stretch", "pad", "crop", "stretch")),
        ("norm", '"l2"', "l1", "l0", ("l0", "l1", "l2", None)),
        ("preprocess", '"unit"', "raw", "torch", ("torch", "raw", "unit", "auto")),
        ("batch-size", "8", "16", "auto", (None, 16, 8, None)),
        ("exit-zero", "true", "0", "", (True, False, True, False)),
        ("eps", '["1/4", 0.5]', "1/8", "0.75", ((0.75,), (0.125,), (0.25, 0.5), None)),
        ("out", '"a"', "b", "c", (Path("c"), Path("b"), Path("a"), None)),
        (
            "attack",
            '["cw", "bim"]',
            "pgd fgm",
            "mim",
            (("mim",), ("pgd", "fgm"), ("cw", "bim"), ()),
        ),
        ("fail-under", "40", "clean=9 30", "5%", (("5%",), ("clean=9", "30"), ("40",), ())),
        ("report", '"a"', "b", "c", ((Path("c"),), (Path("b"),), (Path("a"),), ())),
        ("custom-objects", '"a:A"', "b:B", "c:C", (("c:C",), ("b:B",), ("a:A",), ())),
    ],
)
def test_flag_then_variable_then_file_then_default(
    key: str,
    in_file: str,
    variable: str,
    flag: str,
    values: tuple[Any, ...],
    arrived: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name = {"attack": "attacks", "report": "reports"}.get(key, key.replace("-", "_"))
    toml = f"{key} = {in_file}\n"
    named = ("--config", "advcli.toml", "m", "i")  # custom-objects wants a file that is named
    given = (f"--{key}", flag) if flag else (f"--{key}",)
    assert arrived("", *named)[name] == values[3]
    assert arrived(toml, *named)[name] == values[2]
    assert arrived(f"[evaluate]\n{toml}", *named)[name] == values[2]
    monkeypatch.setenv(f"ADVCLI_{key.upper().replace('-', '_')}", variable)
    assert arrived(toml, *named)[name] == values[1]
    assert arrived(toml, *named, *given)[name] == values[0]


# A value for each kind of key; the options have their own defaults, none of which is this.
_TEXTS = {
    "eps": ("2/255", (2 / 255,)),
    "preset": ("quick", "quick"),
    "fail-under": ("clean=3", ("clean=3",)),
    "batch-size": (24, 24),
    "shard": ("1/2", "1/2"),
    "time-budget": ("10m", 600.0),
    "max-drop": (2, 2.0),
}


@pytest.mark.parametrize("command", ["evaluate", "attack"])
def test_every_option_can_be_set_by_the_file(command: str, arrived: Any) -> None:
    """Each alone, as no two commands know more of it than its Click parameter says."""
    count = 0
    for key, param in keys_of(command).items():
        many = isinstance(param, click.Option) and param.multiple
        kind = param.type
        if key in _TEXTS:
            value, expected = _TEXTS[key]
        elif isinstance(param, click.Option) and param.is_flag:
            value, expected = True, True
        elif isinstance(kind, click.Choice):
            value = expected = kind.choices[-1]
            assert expected != param.default
        elif isinstance(kind, click.types.IntParamType | click.types.FloatParamType):
            value = expected = 12
        else:
            value = "some.txt"
            expected = Path(value) if isinstance(kind, click.Path) else value
            expected = (expected,) if many else expected
        toml = f"{key} = {json.dumps(value)}\n"
        given = {"model": [], "images": ["m"]}.get(key, ["m", "i"])
        rest = 'images = "i"\n' if key == "model" else ""
        named = ("--config", "advcli.toml")
        assert arrived(rest + toml, *named, *given, command=command)[param.name] == expected, key
        own = f"[{command}]\n{toml}"
        assert arrived(rest + own, *named, *given, command=command)[param.name] == expected, key
        if key not in ("model", "images"):
            default = arrived("", "m", "i", command=command)[param.name]
            assert default != expected
            assert stated_of(arrived.ctx) == {
                "path": "advcli.toml",
                "options": {},
                "gates": False,
            }
        count += 1
    assert count >= 38


def test_what_attack_says_is_not_for_evaluate_and_the_reverse(arrived: Any) -> None:
    toml = "limit = 5\n[evaluate]\nlimit = 6\ncurve = true\n[attack]\ninclude-misclassified = true"
    evaluate = arrived(toml, "m", "i")
    attack = arrived(toml, "m", "i", command="attack")
    assert (evaluate["limit"], evaluate["curve"]) == (6, True)
    assert (attack["limit"], attack["include_misclassified"]) == (5, True)


def test_a_value_that_only_another_command_takes_is_for_that(arrived: Any) -> None:
    toml = 'format = "markdown"\n'
    assert arrived(toml, "m", "i")["output_format"] == "markdown"
    assert exits.run(["config", "show", "--command", "inspect"]) == 0
    Path("advcli.toml").write_text('[inspect]\nformat = "markdown"\n')
    assert exits.run(["config", "show", "--command", "inspect"]) == 2


def test_the_file_names_model_and_images_and_arguments_win(arrived: Any) -> None:
    toml = 'model = "m.h5"\nimages = "data"\n'
    found = arrived(toml)
    assert (found["model"], found["images"]) == ("m.h5", "data")
    found = arrived(toml, "other.h5")
    assert (found["model"], found["images"]) == ("other.h5", "data")
    found = arrived(toml, "other.h5", "more")
    assert (found["model"], found["images"]) == ("other.h5", "more")


def test_relative_paths_are_the_files_folder_s(arrived: Any, tmp_path: Path) -> None:
    folder = tmp_path / "sub"
    folder.mkdir()
    (folder / "c.toml").write_text(
        'model = "m.h5"\nimages = "../data"\nout = "run"\nreport = ["a.md", "/b.md"]\n'
        'classes = "c.txt"\nlabels = "l.csv"\nsurrogate = "s.h5"\ngenerator = "g.keras"\n'
        'custom-objects = "o.py:O"\npreprocess = "unit"\n'
    )
    for named, where in (("sub/c.toml", Path("sub")), (str(folder / "c.toml"), folder)):
        found = arrived("", "--config", named)
        assert found["model"] == str(where / "m.h5")
        assert found["images"] == str(where / "../data")
        assert found["out"] == where / "run"
        assert found["reports"] == (where / "a.md", Path("/b.md"))
        assert (found["classes"], found["labels"]) == (where / "c.txt", where / "l.csv")
        assert (found["surrogate"], found["generator"]) == (
            str(where / "s.h5"),
            str(where / "g.keras"),
        )
        assert found["custom_objects"] == (f"{where / 'o.py'}:O",)
        assert found["preprocess"] == "unit"
        assert arrived("", "--config", named, "m.h5")["model"] == "m.h5"


def test_an_attack_that_is_stated_closer_replaces_a_preset(
    arrived: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def chosen(toml: str, *given: str) -> tuple[Any, Any]:
        found = arrived(toml, "m", "i", *given)
        return found["attacks"], found["preset"]

    assert chosen('preset = "quick"', "-a", "pgd") == (("pgd",), None)
    assert chosen('attack = "pgd"', "--preset", "quick") == ((), "quick")
    assert chosen('attack = "pgd"\n[evaluate]\npreset = "quick"') == ((), "quick")
    assert chosen('attack = "pgd"\npreset = "quick"') == (("pgd",), "quick")  # refused later
    monkeypatch.setenv("ADVCLI_PRESET", "blackbox")
    assert chosen('attack = "pgd"') == ((), "blackbox")


def test_natural_threats_alone_leave_eps_and_norm_of_the_file_away(arrived: Any) -> None:
    toml = 'eps = "4/255"\nnorm = "l2"\n'
    found = arrived(toml, "m", "i", "-a", "corruption:kinds=snow")
    assert (found["eps"], found["norm"]) == (None, None)
    found = arrived(toml, "m", "i", "-a", "corruption", "-a", "pgd")
    assert (found["eps"], found["norm"]) == ((4 / 255,), "l2")
    assert arrived(toml, "m", "i", "-a", "corruption", "--eps", "0.5")["eps"] == (0.5,)
    assert arrived(toml, "m", "i", "--preset", "natural")["eps"] is None
    assert arrived(toml, "m", "i", "--preset", "quick")["eps"] is not None


# --- which file


def test_the_working_directory_s_file_and_no_other(
    arrived: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    Path("pyproject.toml").write_text("[tool.advcli]\nlimit = 3\n")
    assert arrived("limit = 4", "m", "i")["limit"] == 4
    Path("other.toml").write_text("limit = 5")
    assert arrived("limit = 4", "m", "i", "--config", "other.toml")["limit"] == 5
    assert arrived("limit = 4", "m", "i", "--config", "pyproject.toml")["limit"] == 3
    assert arrived("limit = 4", "m", "i", "--config", "/dev/null")["limit"] is None
    monkeypatch.setenv("ADVCLI_CONFIG", "other.toml")
    assert arrived("limit = 4", "m", "i")["limit"] == 5


def shown(capsys: Any, *arguments: str) -> dict[str, Any]:
    capsys.readouterr()
    assert exits.run(["config", "show", "--format", "json", *arguments]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_pyproject_is_read_where_it_speaks_of_advcli(
    capsys: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("pyproject.toml").write_text(
        "[tool.advcli]\nlimit = 3\n[[tool.advcli.gates]]\nfail-under = 9"
    )
    found = shown(capsys)
    assert found["file"] == "pyproject.toml"
    assert {"option": "limit", "value": "3", "origin": "pyproject.toml: limit"} in found["options"]
    assert [gate["gate"] for gate in found["gates"]] == ["9"]
    below = tmp_path / "below"
    below.mkdir()
    monkeypatch.chdir(below)
    assert shown(capsys)["file"] is None
    for foreign in ("[tool.ruff]\nline-length = 100\n", "[tool.ruff\nno TOML", "\0"):
        Path("pyproject.toml").write_text(foreign)
        assert exits.run(["config", "show"]) == 0
        assert capsys.readouterr().err == ""
    Path("pyproject.toml").write_text("[tool.advcli\nno TOML")
    assert exits.run(["config", "show"]) == 2
    assert "error: pyproject.toml: " in capsys.readouterr().err
    Path("pyproject.toml").write_text("[tool.ruff]\nline-length = 100\n")
    assert shown(capsys)["file"] is None
    assert exits.run(["config", "show", "--config", "pyproject.toml"]) == 2
    assert "there is no table [tool.advcli]" in capsys.readouterr().err


# --- refusals


@pytest.mark.parametrize(
    ("toml", "said", "hint"),
    [
        ("epz = 1", "unknown key 'epz'", "did you mean 'eps'?"),
        ("fail_under = 40", "unknown key 'fail_under'", "did you mean 'fail-under'?"),
        ("[evaluate]\nlimits = 4", "unknown key 'evaluate.limits'", "did you mean 'limit'?"),
        ("[inspect]\neps = 0.1", "unknown key 'inspect.eps'", "config schema"),
        ("[evalaute]\nlimit = 4", "unknown key 'evalaute'", "did you mean 'evaluate'?"),
        ("verbose = true", "unknown key 'verbose'", "config schema"),
        ("gates.scope = 1", "gates: a table is no value", "[[gates]]"),
        ("limit = 0", "limit: 0 is no value", "a whole number from 1 on"),
        ("limit = 2.5", "limit: 2.5 is no value", "a whole number"),
        ("limit = true", "limit: true is no value", "a whole number"),
        ('limit = "5"', "limit: '5' is no value", "a whole number"),
        ("limit = 0x" + "F" * 5000, "limit: so large a number", "a whole number"),
        ("save-images = 1", "save-images: 1 is no value", "true or false"),
        ('resample = "bilinaer"', "resample: 'bilinaer' is no value", "did you mean 'bilinear'?"),
        ("eps = true", "eps: true is no value", "8/255"),
        ("eps = []", "eps: a list is no value", "8/255"),
        ("eps = nan", "eps: nan is no value", "8/255"),
        ("eps = 2027-01-01", "eps: a date or time is no value", "8/255"),
        ('eps = "eight"', "'eight' is no perturbation budget (advcli.toml: eps)", "8/255"),
        ('[evaluate]\neps = "eight"', "(advcli.toml: evaluate.eps)", "8/255"),
        ("fail-under = 0.4", "fail-under: 0.4 is no value", "0, or 1 to 100"),
        ('fail-under = "0.4"', "0.4 could mean 0.4 % or 40 % (advcli.toml: fail-under)", "0.4%"),
        ('preset = "audi"', "unknown preset 'audi' (advcli.toml: preset)", "audit"),
        ('attack = "pdg"', "unknown attack 'pdg'", "(advcli.toml sets attack)"),
        ('classes = "a\\u0000b"', "classes: 'a\\x00b' is no value", "a text"),
        ('output = ""', "output: '' is no value", "a text"),
        ("targeted = -1", "targeted: -1 is no value", "a whole number"),
        ("limit = 1\nlimit = 2", "is no TOML: Cannot overwrite a value (at", "mend it"),
        ("limit =", "is no TOML: Invalid value (at", "mend it"),
        ("a = " + "[" * 5000, "is no TOML", "mend it"),
        (".".join("a" * 300) + " = 1", "over 200 dots", "--config"),
        ("#" * 2**20 + "#", "is too large", "--config"),
        ("[[gates]]\nscope = 'clean'", "gates[1]: 'fail-under' is missing", "percentage"),
        ("[[gates]]\nfail-under = 0.4", "gates[1].fail-under: 0.4 is no value", "0.5%"),
        ("[[gates]]\nfail-under = '0.4'", "gates[1]: --fail-under 0.4: 0.4 could mean", "write 40"),
        ("[[gates]]\nfail-under = 'pgd=4'", "gates[1].fail-under: 'pgd=4'", "percentage"),
        ("[[gates]]\nfail-under = 4\n[[gates]]\nfail-under = 4\nscope = 'linf'",
         "gates[2]: --fail-under linf=4: a norm needs its eps", "linf@8/255"),
        ("[[gates]]\nfail-under = 4\nexcept = 1", "unknown key 'gates[1].except'", "'accept'"),
        ("[[gates]]\nfail-under = 4\naccept = true", "gates[1].accept: true", "until and reason"),
        ("[[gates]]\nfail-under = 4\naccept = {until = 2027-01-01}", "'reason' is missing", "text"),
        ("[[gates]]\nfail-under = 4\naccept = {reason = 'x'}", "'until' is missing", "2027-03-31"),
        ("[[gates]]\nfail-under = 4\naccept = {until = 2027-01-01, reason = ' '}",
         "gates[1].accept.reason: ' ' is no value", "text"),
        ("[[gates]]\nfail-under = 4\naccept = {until = 2027-01-01T10:00:00, reason = 'x'}",
         "gates[1].accept.until: a date or time is no value", "2027-03-31"),
        ("[[gates]]\nfail-under = 4\naccept = {until = '2027-02-30', reason = 'x'}",
         "gates[1].accept.until: '2027-02-30' is no value", "2027-03-31"),
    ],
)  # fmt: skip
def test_a_refusal_names_the_file_the_key_and_what_is_expected(
    toml: str, said: str, hint: str, capsys: Any
) -> None:
    Path("advcli.toml").write_text(toml)
    Path("m.h5").touch()
    assert exits.run(["evaluate", "m.h5", "."]) == 2
    out, err = capsys.readouterr()
    first, second = err.splitlines()
    assert out == ""
    assert said in first
    assert hint in second
    assert "advcli.toml" in first + second


@pytest.mark.parametrize(
    "toml", ["[[gates]]\nscope = 'cw'\nfail-under = 40", "attack = 'cw'\nfail-under = 'pgd=40'"]
)
def test_a_gate_of_the_file_on_what_is_not_run(toml: str, capsys: Any) -> None:
    Path("advcli.toml").write_text(toml)
    Path("m.h5").touch()
    assert exits.run(["evaluate", "m.h5", "."]) == 2
    first = capsys.readouterr().err.splitlines()[0]
    assert "=40: that is not run here" in first
    assert ("advcli.toml: gates[1] cw=40" in first) == ("gates" in toml)


def test_a_file_is_right_or_wrong_whatever_the_command(capsys: Any) -> None:
    Path("advcli.toml").write_text("[[evaluate.gates]]\nscope = 'linf'\nfail-under = 4")
    assert exits.run(["inspect", "m.h5"]) == 2
    assert "advcli.toml: evaluate.gates[1]: --fail-under linf=4" in capsys.readouterr().err


def test_a_missing_model_of_the_file_says_where_it_was_named(capsys: Any) -> None:
    Path("advcli.toml").write_text("model = 'm.h5'\nimages = 'i'\nlimit = 3")
    assert exits.run(["evaluate"]) == 2
    assert "(advcli.toml sets model, images)" in capsys.readouterr().err
    assert exits.run(["evaluate", "n.h5", "i"]) == 2
    assert "advcli.toml" not in capsys.readouterr().err


def test_files_that_cannot_be_read(capsys: Any) -> None:
    for given in (["--config", "none.toml"], ["--config", "."], ["--config", "x" * 3000]):
        assert exits.run(["evaluate", "m", "i", *given]) == 2
        out, err = capsys.readouterr()
        assert "cannot be read" in err
        assert (out, len(err.splitlines())) == ("", 2)
    Path("advcli.toml").mkdir()
    assert exits.run(["evaluate", "m", "i"]) == 2
    assert "is no regular file" in capsys.readouterr().err


@pytest.mark.parametrize("key", ["allow-unsafe-model = true", "custom-objects = 'a.py:A'"])
def test_a_file_that_nobody_named_lets_no_code_run(key: str, arrived: Any, capsys: Any) -> None:
    name = key.split(" ")[0]
    Path("advcli.toml").write_text(key)
    assert exits.run(["evaluate", "m", "i", "-q"]) == 2
    err = capsys.readouterr().err
    assert f"sets {name}, which runs code, and was only found here" in err
    assert "--config advcli.toml" in err
    assert exits.run(["inspect", "m"]) == 2
    assert "only found here" in capsys.readouterr().err
    arrived(key, "m", "i", "-q", "--config", "advcli.toml")
    assert f"note: advcli.toml sets {name}" in capsys.readouterr().err
    own = ["--custom-objects", "b.py:B"] if name == "custom-objects" else ["--allow-unsafe-model"]
    arrived(key, "m", "i", *own)
    assert capsys.readouterr().err == ""
    arrived("allow-unsafe-model = false\ncustom-objects = []", "m", "i")
    assert capsys.readouterr().err == ""


def test_exit_2_through_a_real_process(tmp_path: Path) -> None:
    (tmp_path / "advcli.toml").write_text("[evaluate]\nfail-undr = 40\n")
    (tmp_path / "m.h5").touch()
    done = shell("advcli evaluate m.h5 .", cwd=tmp_path, PYTHONPATH=str(Path(__file__).parents[2]))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        "error: advcli.toml: unknown key 'evaluate.fail-undr'",
        "hint: did you mean 'fail-under'? `advcli config schema` lists the keys",
    ]


def test_no_answer_about_the_file_needs_tensorflow(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.toml", tmp_path / "bad.toml"
    good.write_text("eps = '8/255'\n[[gates]]\nfail-under = 4\n")
    bad.write_text("eps = 'eight'")
    for args, expected in (
        (["config", "show", "--config", str(good)], 0),
        (["config", "schema"], 0),
        (["config", "init", str(tmp_path / "new.toml")], 0),
        (["config", "show", "--config", str(bad)], 2),
        (["evaluate", "m", "i", "--config", str(bad)], 2),
        (["config"], 2),
    ):
        code, out, err, loaded = child(*args)
        assert (code, bool(out)) == (expected, not expected), err
        assert not loaded & set(HEAVY)


# --- advcli config


def test_show_says_where_each_value_comes_from(
    capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("advcli.toml").write_text(
        "limit = 5\npreset = 'quick'\neps = [0.25, '1/8']\nsave-images = true\n"
        "[evaluate]\nseed = 3\n[[evaluate.gates]]\nscope = 'clean'\nfail-under = 90\n"
        'accept = {until = 2027-03-31, reason = "new\\nlabels"}\n'
    )
    monkeypatch.setenv("ADVCLI_RESIZE", "crop")
    monkeypatch.setenv("ADVCLI_EXIT_ZERO", "1")
    found = shown(capsys, "--", "m.h5", "-a", "pgd", "--device", "cpu")
    rows = {row["option"]: (row["value"], row["origin"]) for row in found["options"]}
    assert list(rows) == list(keys_of("evaluate"))
    assert rows["model"] == ("m.h5", "argument")
    assert rows["images"] == (None, "default")
    assert rows["limit"] == ("5", "advcli.toml: limit")
    assert rows["eps"] == ("0.25,1/8", "advcli.toml: eps")
    assert rows["seed"] == ("3", "advcli.toml: evaluate.seed")
    assert rows["save-images"] == (True, "advcli.toml: save-images")
    assert rows["resize"] == ("crop", "variable ADVCLI_RESIZE")
    assert rows["exit-zero"] == (True, "variable ADVCLI_EXIT_ZERO")
    assert rows["attack"] == (["pgd"], "flag")
    assert rows["preset"] == (None, "default")  # -a took its place
    assert rows["device"] == ("cpu", "flag")
    assert rows["batch-size"] == ("auto", "default")
    (gate,) = found["gates"]
    assert gate["accept"] == {"until": "2027-03-31", "reason": "new\nlabels"}
    assert gate["origin"] == "advcli.toml: evaluate.gates[1]"
    assert {row["option"] for row in shown(capsys, "--command", "verify")["options"]} >= {"replay"}
    assert exits.run(["config", "show"]) == 0
    out = capsys.readouterr().out
    assert ["limit", "5", "advcli.toml:", "limit"] in [line.split() for line in out.splitlines()]
    assert "clean=90 (failure waived until 2027-03-31: new\\nlabels)" in out
    assert exits.run(["config", "show", "--", "a", "b", "c"]) == 2
    assert exits.run(["config", "show", "--", "--epz"]) == 2


def test_init_writes_the_defaults_and_overwrites_nothing(capsys: Any, arrived: Any) -> None:
    plain = shown(capsys)["options"]
    assert exits.run(["config", "init"]) == 0
    text = Path("advcli.toml").read_text()
    assert exits.run(["config", "init"]) == 2
    assert "is there already" in capsys.readouterr().err
    assert exits.run(["config", "init", "pyproject.toml"]) == 2
    assert exits.run(["config", "init", "none/a.toml"]) == 2
    assert Path("advcli.toml").read_text() == text
    assert shown(capsys)["options"] == plain
    for command in CONFIGURED:  # every default, stated
        for key in set(keys_of(command)) - {"model", "images"}:
            assert f"\n#{key} = " in text or f"\n# {key}: no default\n" in text
    lines = [
        line[1:] if line[:1] == "#" and line[1:2] != " " else line for line in text.split("\n")
    ]
    Path("advcli.toml").unlink()
    before = [arrived("", "m", "i", command=c) for c in ("attack", "evaluate")]
    assert [
        arrived("\n".join(lines), "m", "i", command=c) for c in ("attack", "evaluate")
    ] == before
    for command in CONFIGURED:
        known = {k for k, p in keys_of(command).items() if shown_default(p) is not None}
        rows = shown(capsys, "--command", command)["options"]
        assert {
            row["option"] for row in rows if row["origin"] == f"advcli.toml: {row['option']}"
        } == known
        assert len(known) >= 4
    example = text[text.index("# [[gates]]") :].replace("# ", "")
    assert arrived(example, "m", "i")
    assert [gate["gate"] for gate in shown(capsys)["gates"]] == ["linf@8/255=40", "class:stop=60"]

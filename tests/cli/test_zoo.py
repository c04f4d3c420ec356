"""`evaluate` on every classifier of a folder of real models, where that is beside the checkout.

A PGD run on every file that holds an image classifier, a one-line refusal for every other.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from advcli.cli import exits

ZOO = Path(__file__).parents[3] / "shared" / "zoo"
FLAT = "photographs"  # no labels: the model's own prediction is the reference
CLASSIFIERS = {
    "cifar-cnn-tuned": ("cifar10", "unit"),
    "cifar-mlp-k3": ("cifar10", "unit"),
    "fer-mini-xception": ("fer2013", "symmetric"),
    "gender-mini-xception": (FLAT, "symmetric"),
    "gtsrb-kdtec": ("gtsrb", "raw"),
    "gtsrb3-cs50-k3": (FLAT, "unit"),
    "mnist-logits-k3": ("mnist", "unit"),
    "mnist-raw255-224tf": ("mnist", "raw"),
    "potato-augment-28": (FLAT, "auto"),
    "potato-rescale-26": (FLAT, "auto"),
    "signmnist-plaidml": (FLAT, "unit"),
    "smile-k3": ("smiles", "unit"),
    "tm-mask": ("facemask", "symmetric"),
}
REFUSED = {
    "hgq-mnist-custom",
    "neg-lambda-mlp",
    "negw-cifar-named-model",
    "negw-dogcat-204",
    "negx-lfs-pointer",
    "negx-qkeras-weights",
}

pytestmark = pytest.mark.skipif(
    not ZOO.is_dir(),
    reason="no folder of real models beside this checkout: nothing of it is tested",
)


def advcli(capsys: pytest.CaptureFixture[str], *args: object) -> tuple[int, str, str]:
    code = exits.run([str(arg) for arg in args])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_every_model_is_named_here() -> None:
    assert {path.name for path in (ZOO / "models").iterdir()} == set(CLASSIFIERS) | REFUSED


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_every_classifier_is_evaluated(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    images, preprocessing = CLASSIFIERS[name]
    code, out, err = advcli(
        capsys,
        *("evaluate", ZOO / "models" / name / "model.h5", ZOO / "images" / images),
        *("--preprocess", preprocessing, "--limit", 16, "--batch-size", 16, "--allow-chance"),
        *("-a", "pgd:steps=10", "-a", "fgsm", "--format", "json", "-q"),
    )
    assert code == 0, err
    summary = json.loads(out)
    assert summary["images"]["evaluated"] == 16
    rows = {row["attack"]: row for row in summary["attacks"]}
    assert rows["pgd:steps=10"]["errors"] == 0
    assert rows["pgd:steps=10"]["attempted"] == summary["clean"]["correct"]
    assert rows["pgd:steps=10"]["robust"] <= rows["fgsm"]["robust"] + 1
    checks = {finding["check"]: finding for finding in summary["soundness"]["findings"]}
    assert checks["gradient"]["verdict"] == "ok", checks["gradient"]


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_is_no_classifier_is_refused_in_one_line(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = advcli(
        capsys, "evaluate", ZOO / "models" / name / "model.h5", ZOO / "images" / FLAT
    )
    assert (code, out) == (2, "")
    lines = err.strip().splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("error: ")
    assert lines[1].startswith("hint: ")

"""Real models from public repositories: the accuracy of their authors' own code, or a reason."""

import json
import subprocess
import sys

import numpy as np
import pytest

from advcli.errors import ModelError
from advcli.models.auto import choose_preprocessing
from advcli.models.classifier import build
from advcli.models.gradient import check_gradient
from advcli.models.loader import load
from advcli.models.preprocessing import PRESETS
from tests.models.support import ZOO, needs_zoo, zoo_images

pytestmark = needs_zoo

MEASURED = {  # images, preprocessing in their own code, clean accuracy
    "cifar-cnn-tuned": ("cifar10", "unit", 0.682),
    "cifar-mlp-k3": ("cifar10", "unit", 0.44),
    "fer-mini-xception": ("fer2013", "symmetric", 0.4986),
    "gtsrb-kdtec": ("gtsrb", "raw", 0.9593),
    "mnist-logits-k3": ("mnist", "unit", 0.07),
    "mnist-raw255-224tf": ("mnist", "raw", 0.995),
    "smile-k3": ("smiles", "unit", 0.79),
    "tm-mask": ("facemask", "symmetric", 1.0),
}
LOADABLE = [
    *MEASURED,
    "gender-mini-xception",
    "gtsrb3-cs50-k3",
    "potato-augment-28",
    "potato-rescale-26",
    "signmnist-plaidml",
]
REFUSED = {
    "hgq-mnist-custom": "FixedPointQuantizer",
    "neg-lambda-mlp": "Lambda",
    "negw-cifar-named-model": "weights only",
    "negw-dogcat-204": "weights only",
    "negx-lfs-pointer": "Git LFS",
    "negx-qkeras-weights": "weights only",
}


def path_of(name):
    return ZOO / "models" / name / "model.h5"


def test_every_model_has_an_expectation():
    present = {folder.name for folder in (ZOO / "models").iterdir()}
    assert present == {*LOADABLE, *REFUSED}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_a_reason(name):
    with pytest.raises(ModelError, match=REFUSED[name]) as caught:
        load(path_of(name))
    assert "\n" not in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("name", MEASURED)
def test_accuracy_gradient_and_choice(name):
    folder, preset, accuracy = MEASURED[name]
    loaded = load(path_of(name))
    classifier = build(loaded, PRESETS[preset], confirm_batch=50)
    pixels, labels = zoo_images(folder, classifier.input_shape)
    x = (pixels / 255).astype(np.float32)
    answer = classifier.confirm(x)
    assert (answer.prediction == labels).mean() == pytest.approx(accuracy, abs=0.03)
    sample = np.random.default_rng(0).permutation(len(x))[: 48 if name == "tm-mask" else 256]
    findings = check_gradient(classifier, x[sample], labels[sample], 8)
    assert [f.check for f in findings if f.verdict == "suspect"] == []
    # XLA may win on dense layers, by how much depends on the machine
    assert classifier.jit_compile is False or name == "cifar-mlp-k3"
    assert ("untrained" in [f.check for f in classifier.findings]) == (name == "mnist-logits-k3")
    choice = choose_preprocessing(loaded, pixels[sample], labels[sample])
    left = [c.preprocessing.name for c in choice.candidates if not c.excluded_because]
    assert preset in left
    assert choice.suspect == (len(left) > 1)
    assert choice.at_chance == (name == "mnist-logits-k3")
    if name != "mnist-logits-k3":
        assert choice.preprocessing.name == preset


@pytest.mark.parametrize("name", [name for name in LOADABLE if name not in MEASURED])
def test_the_others_load_and_answer(name):
    classifier = build(load(path_of(name)), PRESETS["raw"], confirm_batch=2)
    x = np.random.default_rng(0).random((2, *classifier.input_shape), dtype=np.float32)
    assert np.isfinite(classifier.confirm(x).logits).all()


_REFERENCE = """
import sys, json, warnings
warnings.simplefilter("ignore")
import numpy as np, tf_keras
results = {}
for path in sys.argv[2:]:
    try:
        model = tf_keras.models.load_model(path, compile=False)
    except (TypeError, ValueError) as error:
        continue
    shape = [n or 1 for n in model.input_shape[1:]]
    x = np.random.default_rng(0).random((2, *shape)).astype("float32")
    results[path] = model(x, training=False).numpy().tolist()
json.dump(results, open(sys.argv[1], "w"))
"""


def test_outputs_are_those_of_the_old_keras(tmp_path):
    pytest.importorskip("tf_keras")
    paths = {str(path_of(name)): name for name in LOADABLE}
    result = tmp_path / "reference.json"
    subprocess.run(
        [sys.executable, "-c", _REFERENCE, str(result), *paths],
        check=True,
        capture_output=True,
        env={"TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "3", "PATH": ""},
    )
    reference = json.loads(result.read_text())
    assert len(reference) >= 8
    for path, expected in reference.items():
        model = load(path).model
        shape = model.inputs[0].shape[1:]
        x = np.random.default_rng(0).random((2, *shape)).astype("float32")
        np.testing.assert_allclose(
            model(x, training=False).numpy(), expected, atol=1e-5, err_msg=paths[path]
        )

"""What a user says about a model file: its size, its layers, its preprocessing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from advcli.audit.inspection import inspect_model
from advcli.audit.plan import AuditConfig
from advcli.audit.setup import build, open_cheaply
from advcli.errors import ModelError, UsageError
from tests.cli.support import SAMPLES, shell
from tests.models.support import keras, saved


def config_of(model: Path, images: Path | str = "", **more: object) -> AuditConfig:
    return AuditConfig.model_validate(
        {"command": "evaluate", "model": str(model), "images": str(images)} | more
    )


@pytest.fixture(scope="module")
def any_size(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier of images of any size, by brightness."""
    k = keras()
    inputs = k.Input((None, None, 3))
    x = k.layers.Conv2D(4, 3, activation="relu")(inputs)
    x = k.layers.GlobalAveragePooling2D()(x)
    model = k.Model(inputs, k.layers.Dense(2, activation="softmax")(x))
    weights = [np.full(w.shape, 0.1, np.float32) for w in model.get_weights()]
    weights[2] = np.array([[-1, 1]] * 4, np.float32)
    weights[3] = np.array([5.4, -5.4], np.float32)
    model.set_weights(weights)
    return Path(saved(model, tmp_path_factory.mktemp("any") / "m.h5"))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for label, level in (("dark", 60), ("light", 190)):
        (folder / label).mkdir()
        for i in range(4):
            Image.new("RGB", (40 + i, 31), (level + i,) * 3).save(folder / label / f"{i}.png")
    return folder


def test_a_model_of_any_size_is_audited_at_the_size_that_is_given(
    any_size: Path, photos: Path
) -> None:
    with pytest.raises(ModelError, match="images of any size") as refused:
        build(config_of(any_size, photos), open_cheaply(config_of(any_size, photos))[1])
    assert "--input-size 224x224" in refused.value.hint
    done = shell(
        f"advcli evaluate {any_size} {photos} --input-size 24x20 --preprocess unit "
        "-a fgsm --eps 8/255 --format json --progress none"
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["model"]["input_shape"] == [24, 20, 3]
    assert found["model"]["rules"][-1] == "input-size"
    assert found["clean"]["correct"] == 8


@pytest.mark.parametrize("size", ["224", "0x4", "24x", "24x20x3", "9999x9999", "-1x4", "axb"])
def test_what_is_no_size(any_size: Path, photos: Path, size: str) -> None:
    with pytest.raises(UsageError, match="is no size"):
        open_cheaply(config_of(any_size, photos, input_size=size))


def test_a_model_of_one_size_keeps_it() -> None:
    with pytest.raises(UsageError, match="takes images of 28x28 alone"):
        inspect_model(config_of(SAMPLES / "cnn.h5", input_size="32x32"), with_images=False)
    facts = inspect_model(config_of(SAMPLES / "cnn.h5", input_size="28x28"), with_images=False)
    assert "input-size" not in facts["rules"]


def test_inspect_writes_what_evaluate_reads(tmp_path: Path) -> None:
    model = tmp_path / "cnn.h5"
    shutil.copy(SAMPLES / "cnn.h5", model)
    images = SAMPLES / "images"
    with pytest.raises(UsageError, match="nothing to choose by"):
        inspect_model(config_of(model), with_images=False, save_preprocess=True)
    # accuracy on digits tells several scales apart from none
    with pytest.raises(UsageError, match="leave several: unit; raw"):
        inspect_model(config_of(model, images), with_images=True, save_preprocess=True)
    assert [path.name for path in tmp_path.iterdir()] == ["cnn.h5"]
    stated = config_of(model, preprocess="unit")
    facts = inspect_model(stated, with_images=False, save_preprocess=True)
    assert facts["saved"] == f"{model}.advcli.toml"
    facts = inspect_model(config_of(model), with_images=False)
    assert facts["stated"] == {"flag": "unit", "by": "cnn.h5.advcli.toml beside the model"}
    config = config_of(model, images)
    bench = build(config, open_cheaply(config)[1], check_gradient=False)
    assert bench.preprocessing.flag == "unit"
    assert not [finding for finding in bench.findings if finding["check"] == "preprocessing"]
    flag = config_of(model, images, preprocess="symmetric", allow_chance=True)
    assert build(flag, open_cheaply(flag)[1], check_gradient=False).preprocessing.flag == (
        "symmetric"
    )

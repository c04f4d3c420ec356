"""Configurations of all eras, distorted: the parser, the safety scan and the normaliser."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from advcli.models.header import Header, _loss, _parse_config
from advcli.models.legacy import turns_of
from advcli.models.normalise import major_version, normalise
from advcli.models.safety import scan
from advcli.models.stored import Stored
from tests.fuzz.mutations import distorted, tree_edits
from tests.fuzz.parts import Part


def _layer(class_name: str, **config: Any) -> dict[str, Any]:
    return {"class_name": class_name, "config": {"name": class_name.lower(), **config}}


def _linked(layer: dict[str, Any], *sources: str) -> dict[str, Any]:
    nodes = [[[source, 0, 0, {}] for source in sources]] if sources else []
    return {**layer, "name": layer["config"]["name"], "inbound_nodes": nodes}


_KERAS_1 = [
    _layer(
        "Convolution2D",
        nb_filter=4,
        nb_row=3,
        nb_col=3,
        subsample=[1, 1],
        border_mode="same",
        dim_ordering="th",
        init="glorot_uniform",
        W_regularizer=None,
        bias=True,
        batch_input_shape=[None, 1, 8, 8],
        input_dtype="float32",
    ),
    _layer("MaxPooling2D", pool_size=[2, 2], strides=[2, 2], border_mode="valid"),
    _layer("Dropout", p=0.5),
    _layer("Flatten"),
    _layer("Dense", output_dim=3, activation="softmax", input_dim=None),
]
_KERAS_2 = [
    _layer("Conv2D", filters=4, kernel_size=[3, 3], batch_input_shape=[32, 8, 8, 3]),
    _layer("BatchNormalizationV1", axis=[3], momentum=0.99),
    _layer("RandomHeight", factor=0.2),
    _layer(
        "Dense",
        units=3,
        activation="softmax",
        kernel_initializer={"class_name": "GlorotUniform", "config": {"dtype": "float32"}},
        dtype={"class_name": "Policy", "config": {"name": "mixed_float16"}},
    ),
]
_MOBILE = {
    "class_name": "Functional",
    "config": {
        "name": "mobile",
        "layers": [
            _linked(_layer("InputLayer", batch_input_shape=[None, 8, 8, 3], dtype="uint8")),
            _linked(_layer("DepthwiseConv2D", groups=1, kernel_size=[3, 3]), "inputlayer"),
            _linked(_layer("Add"), "depthwiseconv2d", "inputlayer"),
        ],
        "input_layers": [["inputlayer", 0, 0]],
        "output_layers": [["add", 0, 0]],
    },
}
_KERAS_3 = {
    "module": "keras",
    "class_name": "Sequential",
    "registered_name": None,
    "config": {
        "name": "s",
        "dtype": {
            "module": "keras",
            "class_name": "DTypePolicy",
            "config": {"name": "float32"},
            "registered_name": None,
        },
        "layers": [
            {"module": "keras.layers", **_layer("InputLayer", batch_shape=[None, 8, 8, 3])},
            {"module": "keras.layers", **_layer("Conv2D", filters=4, groups=1)},
            {"module": "keras.layers", **_layer("Bidirectional", layer=_layer("LSTM", units=3))},
        ],
        "build_input_shape": [None, 8, 8, 3],
    },
    "compile_config": {"loss": {"class_name": "MeanSquaredError", "config": {"name": "mse"}}},
}
ERAS: tuple[Any, ...] = (
    {"class_name": "Sequential", "config": _KERAS_1},
    {"class_name": "Sequential", "config": {"name": "s", "layers": _KERAS_2}},
    {"class_name": "Model", "config": _MOBILE["config"]},
    {"class_name": "Sequential", "config": {"name": "t", "layers": [_MOBILE, *_KERAS_2[3:]]}},
    _KERAS_3,
)
_STORED = (Stored("model_weights/dense/kernel:0", "plain", (12, 3), 144, 144),)

distorted_configs = st.builds(
    lambda era, edits: json.dumps(distorted(era, edits)).encode(),
    st.sampled_from(ERAS),
    tree_edits,
)
_damaged_text = st.builds(
    lambda era, at, new, cut: (json.dumps(era)[: at % 900] + new + json.dumps(era)[at % 900 :])[
        : None if cut else at % 500
    ].encode(errors="surrogatepass"),
    st.sampled_from(ERAS),
    st.integers(0, 2**16),
    st.sampled_from(
        ('"', "{", "[" * 3000, "9" * 5000, "\\ud800", "\0", "\x1b", "NaN", "1e999", ",")
    ),
    st.booleans(),
)


def read(case: bytes, folder: Path) -> None:
    """All that happens to a configuration before TensorFlow is asked."""
    path = folder / "model.h5"
    version = ("1.0.8", "2.3.1", "3.11.0", None)[len(case) % 4]
    config = _parse_config(path, case)
    loss = _loss(case)
    header = Header(path, "", "h5", version, "theano", config, _STORED, 1, loss)
    scan(header)
    normalised, _ = normalise(config, version)
    turns_of(str(path), normalised, major_version(version), header.backend)
    json.dumps(normalised)


PART = Part("configs", st.one_of(distorted_configs, distorted_configs, _damaged_text), read)

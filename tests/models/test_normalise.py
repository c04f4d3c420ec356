"""Each rule alone: what it changes, and that it leaves everything else as it is."""

import copy

import pytest

from advcli.models.normalise import RULES, major_version, normalise


def sequential(*layers):
    return {"class_name": "Sequential", "config": {"name": "s", "layers": list(layers)}}


def layer(class_name, **config):
    return {"class_name": class_name, "config": {"name": class_name.lower(), **config}}


def entry(**config):
    return layer("InputLayer", batch_shape=[None, 8, 8, 3], dtype="float32", **config)


CASES = {
    "sequential-list": {"class_name": "Sequential", "config": [entry(), layer("Dense")]},
    "keras1-layer-name": sequential(entry(), layer("AtrousConvolution2D")),
    "keras1-merge": sequential(entry(), layer("Merge", mode="ave")),
    "keras1-padding": sequential(entry(), layer("ZeroPadding2D", padding={"top_pad": 1})),
    "keras1-arguments": sequential(entry(), layer("Conv2D", nb_filter=3, nb_row=3, nb_col=2)),
    "keras1-dim-ordering": sequential(entry(), layer("Conv2D", dim_ordering="th")),
    "keras1-input-dtype": sequential(entry(), layer("Dense", input_dtype="float32")),
    "keras1-penalties": sequential(entry(), layer("Dense", kernel_regularizer={"l2": 0.1})),
    "keras1-batchnorm-mode": sequential(entry(), layer("BatchNormalization", mode=0)),
    "batchnorm-name": sequential(entry(), layer("BatchNormalizationV1")),
    "depthwise-groups": sequential(entry(), layer("DepthwiseConv2D", groups=1)),
    "single-input-output": {
        "class_name": "Functional",
        "config": {
            "layers": [entry()],
            "input_layers": [["a", 0, 0]],
            "output_layers": ["a", 0, 0],
        },
    },
    "initializer-dtype": sequential(
        entry(),
        layer("Dense", kernel_initializer={"class_name": "Zeros", "config": {"dtype": "float32"}}),
    ),
    "missing-input-layer": sequential(sequential(layer("Dense", batch_shape=[None, 9]))),
    "inner-input-shape": sequential(entry(), layer("Dense", batch_input_shape=[None, 9])),
    "random-height-width": sequential(entry(), layer("RandomHeight", factor=0.2)),
    "inner-training": sequential(entry(), layer("Dense") | {"compile_config": {"loss": "x"}}),
    "fixed-dropout": sequential(entry(), layer("FixedDropout", rate=0.2, noise_shape=None)),
    "batchnorm-axis-list": sequential(entry(), layer("BatchNormalization", axis=[3])),
    "dtype-policy": sequential(
        entry(),
        layer("Dense", dtype={"class_name": "Policy", "config": {"name": "mixed_float16"}}),
    ),
    "fixed-batch-size": sequential(layer("InputLayer", batch_shape=[32, 8, 8, 3])),
    "byte-input": sequential(layer("InputLayer", batch_shape=[None, 8, 8, 3], dtype="uint8")),
    "hard-sigmoid": sequential(entry(), layer("Dense", activation="hard_sigmoid")),
    "thresholded-relu": sequential(entry(), layer("ThresholdedReLU", theta=0.5)),
    "spatial-dropout-trainable": sequential(entry(), layer("SpatialDropout2D", trainable=True)),
    "separable-kernel": sequential(entry(), layer("SeparableConv2D", kernel_initializer=None)),
    "time-major": sequential(entry(), layer("LSTM", time_major=False)),
    "gru-reset-after": sequential(entry(), layer("GRU", units=3)),
    "wrapped-layer": sequential(entry(), layer("Bidirectional", layer=layer("SimpleRNN"))),
    "tensor-functions": sequential(
        {
            "class_name": "TFOpLambda",
            "name": "divide",
            "config": {"name": "divide", "function": "math.truediv"},
            "inbound_nodes": [["input", 0, 0, {"y": 127.5, "name": None}]],
        }
    ),
    "long-sequential": sequential(entry(), *[layer("Dense") for _ in range(20)]),
}


def test_every_rule_has_a_case():
    assert [rule.name for rule in RULES] == list(CASES)
    assert all(rule.prevents for rule in RULES)


@pytest.mark.parametrize("name", CASES)
def test_a_rule_changes_its_case_once(name):
    case = CASES[name]
    before = copy.deepcopy(case)
    changed, rules = normalise(case)
    assert case == before
    assert changed != before
    assert name in rules
    assert normalise(changed) == (changed, ())
    # Nested deeper it is found too.
    assert name in normalise(sequential(entry(), case))[1]


def test_a_modern_configuration_stays():
    config = sequential(
        entry(),
        layer("DepthwiseConv2D", kernel_size=[3, 3]),
        layer("BatchNormalization", axis=-1),
        layer("Conv2D", groups=1),
    )
    assert normalise(config) == (config, ())


def test_groups_that_mean_something_stay():
    config = sequential(entry(), layer("DepthwiseConv2D", groups=2))
    assert normalise(config) == (config, ())


def test_stateful_networks_keep_their_batch():
    config = sequential(
        layer("InputLayer", batch_shape=[32, 8, 8, 3]), layer("LSTM", stateful=True)
    )
    assert normalise(config)[1] == ()


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule.before], ids=lambda r: r.name)
def test_what_a_later_keras_saved_is_left_alone(rule):
    case = CASES[rule.name]
    assert rule.name in normalise(case, f"{rule.before - 1}.9.1-tf")[1]
    assert normalise(case, f"{rule.before}.0.0")[1] == ()


@pytest.mark.parametrize(
    ("text", "major"), [(None, 1), ("", 1), ("2.2.4-tf", 2), ("3.11.3", 3), ("99999.1", 1)]
)
def test_major_versions(text, major):
    assert major_version(text) == major


@pytest.mark.parametrize("name", [[], {}, None, 3.5])
def test_names_that_are_none(name):
    odd = {"class_name": "Dense", "name": name, "config": {"name": name}}
    unconnected = layer("TFOpLambda", function="math.abs")
    assert normalise(sequential(entry(), odd, unconnected)) == (
        sequential(entry(), odd, unconnected),
        (),
    )

"""Each rule alone: what it changes, and that it leaves everything else as it is."""

import copy

import pytest

from advcli.models.normalise import RULES, normalise


def sequential(*layers):
    return {"class_name": "Sequential", "config": {"name": "s", "layers": list(layers)}}


def layer(class_name, **config):
    return {"class_name": class_name, "config": {"name": class_name.lower(), **config}}


def entry(**config):
    return layer("InputLayer", batch_shape=[None, 8, 8, 3], dtype="float32", **config)


CASES = {
    "sequential-list": {"class_name": "Sequential", "config": [entry(), layer("Dense")]},
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
    "batchnorm-axis-list": sequential(entry(), layer("BatchNormalization", axis=[3])),
    "dtype-policy": sequential(
        entry(),
        layer("Dense", dtype={"class_name": "Policy", "config": {"name": "mixed_float16"}}),
    ),
    "fixed-batch-size": sequential(layer("InputLayer", batch_shape=[32, 8, 8, 3])),
    "byte-input": sequential(layer("InputLayer", batch_shape=[None, 8, 8, 3], dtype="uint8")),
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

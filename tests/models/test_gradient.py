"""The check takes the path whose gradient is right, and names what puts attacks in doubt."""

from types import SimpleNamespace

import numpy as np
import pytest

from advcli.errors import UsageError
from advcli.lazy import tf
from advcli.models.classifier import build
from advcli.models.gradient import check_gradient
from advcli.models.loader import load
from advcli.models.paths import margin
from advcli.models.preprocessing import PRESETS
from tests.models.support import keras, random_pixels, saved, small_cnn

SHAPE = (12, 12, 3)


class Function:
    """A classifier made of a plain function, for the failures that no small Keras model has."""

    input_shape = SHAPE
    class_count = 3
    findings = ()
    jit_compile = None
    head = SimpleNamespace(ending="logits")

    def __init__(self, logits):
        self.logits = logits


def weights():
    return np.random.default_rng(0).normal(size=(432, 3)).astype(np.float32)


def linear(x):
    return tf.reshape(x, (-1, 432)) @ tf.constant(weights())


def findings_of(classifier, rows=16, path="auto"):
    x = random_pixels(8, SHAPE)
    found = check_gradient(classifier, x, np.arange(8) % 3, rows, path)
    return {finding.check: finding for finding in found}


def check(classifier, rows=16, path="auto"):
    """Verdicts, but for how it was compiled."""
    found = findings_of(classifier, rows, path)
    return {check: f.verdict for check, f in found.items() if check != "compile"}


def path_of(classifier, path="auto"):
    """(whether XLA is taken, the verdict on that, and why)."""
    found = findings_of(classifier, path=path)["compile"]
    return classifier.jit_compile, found.verdict, found.detail


@pytest.fixture
def seconds(monkeypatch):
    """How long the plain graph and XLA seem to take."""
    from advcli.models import gradient

    least = [1.0, 1.0]
    monkeypatch.setattr(gradient, "seconds", lambda runs, batch: least)
    return least


@pytest.fixture(autouse=True)
def started():
    keras()


def test_margin():
    logits = tf.constant([[1.0, 3.0, 2.0], [5.0, 1.0, 2.0]])
    np.testing.assert_array_equal(margin(logits, tf.constant([1, 2])), [-1.0, 3.0])


@pytest.mark.parametrize("rows", [1, 5, 16])
def test_a_right_gradient(tmp_path, rows):
    path = saved(small_cnn(keras().layers.Dense(3, activation="softmax")), tmp_path / "m.h5")
    classifier = build(load(path), PRESETS["unit"])
    assert check(classifier, rows) == {"gradient": "ok"}
    assert classifier.jit_compile is False


def test_a_wrong_gradient():
    @tf.custom_gradient
    def wrong(x):
        return linear(x), lambda up: 3 * tf.reshape(up @ tf.constant(weights().T), (-1, *SHAPE))

    classifier = Function(wrong)
    assert check(classifier) == {"gradient": "suspect"}
    assert classifier.jit_compile is False
    found = findings_of(classifier, path="xla")["gradient"]
    assert "compiled as a graph and by XLA" in found.detail  # no flag would help
    assert classifier.jit_compile is True


@pytest.fixture
def faulty(monkeypatch):
    """A fault of one compile path is staged: its gradient comes out tripled."""
    from advcli.models import paths

    honest, wrong = paths.compiled, {"jit": False}

    def staged(classifier, jit):
        run = honest(classifier, jit)

        def faulty(x, y):
            answer = run(x, y)
            return paths.Answer(answer.logits, 3 * answer.margin_gradient, answer.entropy_gradient)

        return faulty if jit == wrong["jit"] else run

    monkeypatch.setattr(paths, "compiled", staged)
    return wrong


def test_xla_is_taken_where_only_it_is_right(faulty):
    classifier = Function(linear)
    assert check(classifier) == {"gradient": "ok"}
    assert classifier.jit_compile is True


@pytest.mark.parametrize(("asked", "right"), [("graph", "xla"), ("xla", "graph")])
def test_a_wrong_path_that_is_asked_for_is_suspect_and_names_the_right_one(faulty, asked, right):
    faulty["jit"] = asked == "xla"
    classifier = Function(linear)
    found = findings_of(classifier, path=asked)["gradient"]
    assert found.verdict == "suspect"
    assert f"--compile {right} computes it right" in found.detail
    assert classifier.jit_compile is (asked == "xla")
    assert check(classifier, path=right) == {"gradient": "ok"}


@pytest.mark.parametrize(("times", "taken"), [(1.1, False), (1.2, True)])
def test_dense_models_are_compiled_by_xla_where_it_wins_clearly(seconds, times, taken):
    seconds[:] = times, 1.0
    jit, verdict, why = path_of(Function(linear))
    assert (jit, verdict) == (taken, "note" if taken else "ok")
    assert f"{times} times as fast" in why


def test_convolutions_are_not_compiled_by_xla_on_a_cpu(seconds, tmp_path):
    seconds[:] = 9.0, 1.0
    path = saved(small_cnn(keras().layers.Dense(3)), tmp_path / "m.h5")
    jit, verdict, why = path_of(build(load(path), PRESETS["unit"]))
    assert (jit, verdict) == (False, "ok")
    assert "convolutions" in why


def test_a_path_that_is_asked_for_is_taken_whatever_is_faster(seconds):
    seconds[:] = 9.0, 1.0
    assert path_of(Function(linear), "graph") == (False, "note", "graph: --compile graph")
    seconds[:] = 1.0, 9.0
    assert path_of(Function(linear), "xla") == (True, "note", "XLA: --compile xla")


def calling(function):
    """Logits that call Python on the way, which XLA knows nothing of."""

    def logits(x):
        with tf.control_dependencies([tf.numpy_function(function, [tf.shape(x)[0]], tf.int32)]):
            return linear(tf.identity(x))

    return logits


def test_what_xla_cannot_compile_is_refused_where_it_is_asked_for(seconds):
    seconds[:] = 9.0, 1.0
    classifier = Function(calling(lambda rows: rows))
    with pytest.raises(UsageError, match="--compile xla: the model cannot be compiled") as caught:
        check(classifier, path="xla")
    assert "--compile graph" in caught.value.hint
    assert caught.value.exit_code == 2
    jit, _, why = path_of(classifier)
    assert jit is False
    assert "XLA cannot compile" in why


def test_memory_that_does_not_suffice_is_no_missing_gradient():
    def greedy(rows):
        raise MemoryError("no room")

    with pytest.raises(tf.errors.ResourceExhaustedError):
        check(Function(calling(greedy)))


def test_masked_cross_entropy():
    classifier = Function(lambda x: 1000 * linear(x))
    assert check(classifier) == {"gradient": "ok", "saturated-cross-entropy": "suspect"}


def test_no_gradient_at_all():
    classifier = Function(lambda x: linear(tf.round(x * 255) / 255))
    assert check(classifier)["zero-gradient"] == "suspect"
    assert check(classifier)["gradient"] == "suspect"


def test_a_randomised_model():
    tf.random.set_seed(0)  # wanted where another test has asked for deterministic kernels
    classifier = Function(lambda x: linear(x + 0.1 * tf.random.normal(tf.shape(x))))
    assert check(classifier)["randomised"] == "suspect"


def test_a_model_that_mixes_its_batch():
    classifier = Function(lambda x: linear(x) * tf.linspace(1.0, 2.0, tf.shape(x)[0])[:, None])
    assert check(classifier)["row-position"] == "suspect"


def test_logits_that_are_no_numbers():
    classifier = Function(lambda x: tf.math.log(linear(x) - 1e9))
    assert check(classifier) == {"finite-logits": "suspect"}


def test_saturated_probabilities(tmp_path):
    k = keras()
    inputs = k.Input(SHAPE)
    bodies = [small_cnn(seed=seed) for seed in (1, 2)]
    for body in bodies:
        body.layers[-1].kernel.assign(0 * body.layers[-1].kernel)
        body.layers[-1].bias.assign([900.0, 0, 0, 0, 0])
    model = k.Model(inputs, k.layers.Average()([body(inputs) for body in bodies]))
    classifier = build(load(saved(model, tmp_path / "m.h5")), PRESETS["unit"])
    assert check(classifier)["saturated-probabilities"] == "suspect"

"""Formulas, flags that read back as what they were, and errors that say what to type."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from advcli.errors import UsageError
from advcli.lazy import tf
from advcli.models import runtime
from advcli.models.preprocessing import PRESETS, Preprocessing, parse

RED = np.array([[[[1.0, 0.5, 0.0]]]], np.float32)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("unit", [1, 0.5, 0]),
        ("raw", [255, 127.5, 0]),
        ("symmetric", [1, 0, -1]),
        ("caffe", [-103.939, 127.5 - 116.779, 255 - 123.68]),
        ("torch", [0.515 / 0.229, 0.044 / 0.224, -0.406 / 0.225]),
        ("scale=10,mean=1:2:3,std=2,channels=bgr", [-0.5, 1.5, 3.5]),
    ],
)
def test_formulas(text, expected):
    runtime.prepare("cpu")
    preprocessing = parse(text)
    np.testing.assert_allclose(preprocessing.apply(tf.constant(RED))[0, 0, 0], expected, atol=1e-5)
    exact = preprocessing.apply_exactly(RED)
    assert exact.dtype == np.float32
    np.testing.assert_allclose(exact[0, 0, 0], expected, atol=1e-5)


def test_raw_levels_are_whole_numbers():
    levels = np.arange(256)
    x = (levels / 255).astype(np.float32).reshape(1, 16, 16, 1)
    np.testing.assert_array_equal(PRESETS["raw"].apply_exactly(x).ravel(), levels)
    symmetric = (levels / 127.5 - 1).astype(np.float32)  # cancels: a last bit of x would show
    np.testing.assert_allclose(
        PRESETS["symmetric"].apply_exactly(x).ravel(), symmetric, rtol=1e-7, atol=1e-12
    )


def test_gray_presets_need_one_value():
    for name in PRESETS:
        preprocessing = parse(name, channel_count=1)
        preprocessing.check(1)
        assert preprocessing.channels == "rgb"


numbers = st.sampled_from([-1.0, 0.5, 1.0, 2.0, 103.939, 255.0])


@given(
    st.builds(
        Preprocessing,
        st.just("custom"),
        numbers,
        st.lists(numbers, min_size=1, max_size=1) | st.lists(numbers, min_size=3, max_size=3),
        st.lists(numbers, min_size=3, max_size=3),
        st.sampled_from(["rgb", "bgr"]),
    )
)
def test_flag_reads_back(preprocessing):
    preprocessing = Preprocessing(
        "custom",
        preprocessing.scale,
        tuple(preprocessing.mean),
        tuple(preprocessing.std),
        preprocessing.channels,
    )
    again = parse(preprocessing.flag)
    x = np.linspace(0, 1, 12, dtype=np.float32).reshape(1, 2, 2, 3)
    np.testing.assert_allclose(again.apply_exactly(x), preprocessing.apply_exactly(x), rtol=1e-5)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("imagenet", "no preprocessing is called"),
        ("scale=x", "scale is 'x'"),
        ("scale=0", "must not be 0"),
        ("std=0", "must not be 0"),
        ("mean=nan", "mean is 'nan'"),
        ("size=3", "not understood"),
        ("scale=1,scale=2", "twice"),
        ("mean=1:2", "2 values"),
        ("channels=gbr", "channels is 'gbr'"),
    ],
)
def test_errors(text, reason):
    with pytest.raises(UsageError, match=reason) as caught:
        parse(text)
    assert caught.value.hint


def test_bgr_needs_colour():
    with pytest.raises(UsageError, match="needs 3 channels"):
        parse("scale=1,channels=bgr", channel_count=1)

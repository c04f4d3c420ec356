"""TensorFlow starts silently, on the device asked for, whatever the user's environment says."""

import os
import subprocess
import sys

import pytest

from advcli.errors import UsageError
from advcli.models import runtime


def in_new_process(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", f"from advcli.models import runtime; {code}"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )


def test_nothing_on_the_screen_and_settings_are_forced(tmp_path):
    (tmp_path / "keras.json").write_text(
        '{"floatx": "float16", "epsilon": 1e-7, "backend": "torch",'
        ' "image_data_format": "channels_first"}'
    )
    code = (
        "runtime.prepare('cpu'); runtime.prepare(); runtime.prepare('cpu');"
        "import keras, tensorflow as tf;"
        "c = keras.config;"
        "print(c.backend(), c.floatx(), c.image_data_format(), c.dtype_policy().name,"
        "tf.config.experimental.tensor_float_32_execution_enabled())"
    )
    done = in_new_process(code, KERAS_BACKEND="torch", KERAS_HOME=str(tmp_path))
    assert done.stderr == ""
    assert done.stdout == "tensorflow float32 channels_last float32 False\n"
    assert done.returncode == 0


def test_threads_side_by_side_share_the_cores():
    code = (
        "runtime.cores = lambda: 6; runtime.prepare('cpu', one_thread={});"
        "import tensorflow as tf;"
        "print(runtime.side_by_side(), tf.config.threading.get_intra_op_parallelism_threads())"
    )
    # 0: TensorFlow's own choice, all cores or what the environment says
    assert in_new_process(code.format(False)).stdout == "4 1\n"
    assert in_new_process(code.format(True)).stdout == "4 0\n"
    assert in_new_process(code.format(False), TF_NUM_INTRAOP_THREADS="5").stdout == "4 0\n"
    assert in_new_process("print(runtime.side_by_side())").stdout == "1\n"
    late = "import tensorflow as tf; tf.constant(1) + 1; runtime.prepare('cpu'); print('ready')"
    assert in_new_process(late).stdout.endswith("ready\n")


def test_devices():
    runtime.prepare("cpu")
    assert runtime.describe_device().startswith("cpu (")
    for device, reason in (("tpu", "no device"), ("gpu:x", "no device"), ("gpu:99", "already")):
        with pytest.raises(UsageError, match=reason) as caught:
            runtime.prepare(device)
        assert caught.value.hint


def test_an_absent_gpu():
    code = (
        "from advcli.errors import UsageError\n"
        "try: runtime.prepare('gpu:99')\n"
        "except UsageError as error: print(error.message)"
    )
    assert "--device gpu:99: TensorFlow finds" in in_new_process(f"\n{code}").stdout

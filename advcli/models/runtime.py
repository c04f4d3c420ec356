"""TensorFlow and Keras started the same way everywhere: quiet, float32, on the device asked for.

On a CPU, threads side by side, each with a batch of its own, use the cores better than one batch
whose every operation is split among them: so each gets a share of the cores (`side_by_side`).
Measured on two cores: `audit` on a network of three convolutions 28 % faster than with two threads
that both split; a ResNet-20 costs the same per image in batches of 16 as of 64.

`prepare` comes before the first import of Keras. What it settles is process-wide, so it settles it
once; a second call with the same device, or with `auto`, changes nothing.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
import tempfile
import warnings
from collections.abc import Iterator

from advcli.errors import NoVerdictError, UsageError

_DEVICE = re.compile(r"auto|cpu|gpu(?::(\d+))?")
# What libraries below TensorFlow (oneDNN, cuDNN, cuBLAS, XLA) say of it under other error codes
_NO_MEMORY = re.compile(r"out.of.memory|\bOOM\b|ALLOC_FAILED|bad_alloc", re.IGNORECASE)
# With more of them each would trace a residual network anew
_MOST_THREADS = 4
_prepared: str | None = None


def cores() -> int:
    """Those that this process may use."""
    available = getattr(os, "sched_getaffinity", None)
    return len(available(0)) if available else os.cpu_count() or 1


def side_by_side() -> int:
    """How many threads are to compute at the same time: on a GPU one, else as many as share the
    cores among them."""
    if _prepared is None or _prepared.startswith("gpu"):
        return 1
    return min(cores(), _MOST_THREADS)


def prepare(device: str = "auto", *, one_thread: bool = False) -> None:
    """Imports TensorFlow and Keras, silently, and chooses the device.

    **Arguments**
    - `device`: `auto` (the first GPU if there is one), `cpu`, `gpu` or `gpu:i`.
    - `one_thread`: most of the work is one thread's, so operations are split among all cores. So
      they are, too, where the environment has TF_NUM_INTRAOP_THREADS, as that says.

    Raises `UsageError` for a device that does not exist, or when another one is already in use.
    """
    global _prepared
    asked = _DEVICE.fullmatch(device)
    if asked is None:
        raise UsageError(f"no device is called {device!r}", "use --device auto, cpu, gpu or gpu:0")
    device = "gpu:0" if device == "gpu" else device
    if _prepared is not None:
        if device not in ("auto", _prepared):
            raise UsageError(
                f"this process already computes on {_prepared}, so {device} cannot be chosen",
                "start another process for another device",
            )
        return
    os.environ["KERAS_BACKEND"] = "tensorflow"
    # Read by TensorFlow when it starts; whoever set them wants what they say.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("ABSL_MIN_LOG_LEVEL", "3")
    # For GPU kernels: without them two equal runs may differ in the last bit. On every device they
    # make TensorFlow refuse random numbers without a seed, as a randomised model may draw them.
    os.environ.setdefault("TF_DETERMINISTIC_OPS", "1")
    os.environ.setdefault("TF_CUDNN_DETERMINISTIC", "1")
    with _hushed():
        import keras
        import tensorflow

        if keras.config.backend() != "tensorflow":
            raise UsageError(
                f"Keras was already imported with the backend {keras.config.backend()}",
                "set KERAS_BACKEND=tensorflow before anything imports Keras",
            )
        # ~/.keras/keras.json may say otherwise, and would change what a model computes.
        keras.config.set_floatx("float32")
        keras.config.set_image_data_format("channels_last")
        keras.config.set_dtype_policy("float32")
        tensorflow.config.experimental.enable_tensor_float_32_execution(False)
        tensorflow.get_logger().setLevel(logging.ERROR)
        _prepared = _choose(device, None if asked[1] is None else int(asked[1]))
        if _prepared == "cpu" and not one_thread and "TF_NUM_INTRAOP_THREADS" not in os.environ:
            # too late where somebody has computed already: then it is slower, no more
            with contextlib.suppress(RuntimeError):
                tensorflow.config.threading.set_intra_op_parallelism_threads(
                    cores() // side_by_side()
                )


def _choose(device: str, index: int | None) -> str:
    """Makes one device visible and returns its name, `cpu` or `gpu:i`."""
    import tensorflow

    present = tensorflow.config.list_physical_devices("GPU")
    if device == "cpu" or (device == "auto" and not present):
        chosen = []
    else:
        index = index or 0
        if index >= len(present):
            found = f"only {len(present)} GPU(s)" if present else "no GPU"
            raise UsageError(
                f"--device {device}: TensorFlow finds {found} here",
                "use --device cpu, or install the driver and `pip install 'advcli[gpu]'`",
            )
        chosen = [present[index]]
    try:
        tensorflow.config.set_visible_devices(chosen, "GPU")
        for gpu in chosen:
            tensorflow.config.experimental.set_memory_growth(gpu, True)
    except RuntimeError as error:
        raise UsageError(
            f"the device cannot be chosen any more: {error}",
            "call advcli before other TensorFlow work in this process",
        ) from error
    return f"gpu:{index}" if chosen else "cpu"


def describe_device() -> str:
    """The device in a report's words: `gpu:0 (NVIDIA H200)` or `cpu (2 threads)`."""
    prepare()
    import tensorflow

    if _prepared is None or _prepared == "cpu":
        return f"cpu ({cores()} threads)"
    gpu = tensorflow.config.get_visible_devices("GPU")[0]
    name = tensorflow.config.experimental.get_device_details(gpu).get("device_name", "unnamed")
    return f"{_prepared} ({name})"


def out_of_memory(error: BaseException) -> bool:
    """Whether what failed may succeed with fewer rows at once."""
    from tensorflow import errors

    if isinstance(error, (MemoryError, errors.ResourceExhaustedError)):
        return True
    return isinstance(error, errors.OpError) and bool(_NO_MEMORY.search(str(error)))


@contextlib.contextmanager
def _hushed() -> Iterator[None]:
    """Keeps what C++ code writes to the process's two output streams off the screen.

    TensorFlow writes its first lines before it has read any log level. If the block fails, what
    was kept becomes part of the error, because it is then the only trace of the cause.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    saved = [os.dup(stream) for stream in (1, 2)]
    with tempfile.TemporaryFile() as kept:
        for stream in (1, 2):
            os.dup2(kept.fileno(), stream)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield
        except ImportError as error:
            kept.seek(0)
            last = kept.read().decode(errors="replace").strip().splitlines()[-1:]
            raise NoVerdictError(
                f"TensorFlow cannot be started: {' '.join([str(error), *last])}",
                "reinstall it: pip install --force-reinstall advcli",
            ) from error
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for stream, copy in zip((1, 2), saved, strict=True):
                os.dup2(copy, stream)
                os.close(copy)

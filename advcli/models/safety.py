"""Refuses a model file that could run code, read other files or exhaust memory, before any load.

The list is of what is allowed: a class that nobody here has looked at is refused by default. The
layers below compute tensors from tensors; none takes a path, a module's name or Python code.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from advcli.errors import ModelError
from advcli.models.header import Header, Stored
from advcli.models.sniff import shown

MAX_DECLARED_BYTES = 8 * 2**30
MAX_RATIO = 100
FREE_BYTES = 2**20
"""Declared bytes may exceed stored ones by `MAX_RATIO` (compression), beyond a free megabyte."""

_ALLOWED = frozenset(
    """
    Sequential Functional Model InputLayer
    Dense EinsumDense Embedding Activation Identity Masking Conv1D Conv2D Conv3D
    Conv1DTranspose Conv2DTranspose Conv3DTranspose DepthwiseConv1D DepthwiseConv2D
    SeparableConv1D SeparableConv2D Convolution1D Convolution2D Convolution2DTranspose
    SeparableConvolution1D SeparableConvolution2D AtrousConvolution2D Deconvolution2D
    AveragePooling1D AveragePooling2D AveragePooling3D AvgPool1D AvgPool2D AvgPool3D
    MaxPooling1D MaxPooling2D MaxPooling3D MaxPool1D MaxPool2D MaxPool3D
    GlobalAveragePooling1D GlobalAveragePooling2D GlobalAveragePooling3D GlobalAvgPool1D
    GlobalAvgPool2D GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPooling3D GlobalMaxPool1D
    GlobalMaxPool2D AdaptiveAveragePooling2D AdaptiveMaxPooling2D
    BatchNormalization BatchNormalizationV1 BatchNormalizationV2 SyncBatchNormalization
    LayerNormalization GroupNormalization RMSNormalization UnitNormalization
    SpectralNormalization Normalization
    Dropout SpatialDropout1D SpatialDropout2D SpatialDropout3D AlphaDropout GaussianDropout
    GaussianNoise ActivityRegularization
    Flatten Reshape Permute RepeatVector Cropping1D Cropping2D Cropping3D ZeroPadding1D
    ZeroPadding2D ZeroPadding3D UpSampling1D UpSampling2D UpSampling3D
    Add Average Concatenate Dot Maximum Minimum Multiply Subtract Merge
    ReLU LeakyReLU PReLU ELU Softmax ThresholdedReLU
    LSTM GRU SimpleRNN RNN LSTMCell GRUCell SimpleRNNCell StackedRNNCells ConvLSTM1D ConvLSTM2D
    Bidirectional TimeDistributed
    Attention AdditiveAttention MultiHeadAttention GroupQueryAttention
    Rescaling Resizing CenterCrop RandomFlip RandomRotation RandomZoom RandomTranslation
    RandomContrast RandomBrightness RandomCrop RandomHeight RandomWidth RandomShear
    RandomPerspective RandomSaturation RandomHue RandomGrayscale RandomInvert RandomErasing
    RandomSharpness RandomPosterization RandomColorJitter RandomColorDegeneration
    RandomGaussianBlur RandomElasticTransform AutoContrast Equalization Solarization AugMix
    RandAugment CutMix MixUp
    Constant GlorotNormal GlorotUniform HeNormal HeUniform LecunNormal LecunUniform Ones Zeros
    Orthogonal OrthogonalInitializer IdentityInitializer RandomNormal RandomUniform
    TruncatedNormal VarianceScaling
    L1 L2 L1L2 OrthogonalRegularizer MaxNorm MinMaxNorm NonNeg UnitNorm
    DTypePolicy Policy FloatDTypePolicy DTypePolicyMap
    TensorShape SeedGenerator __tuple__ __tensor__ __numpy__ __keras_tensor__ slice __ellipsis__
    """.split()
)

# Keras 3 keeps operations that a functional model applies to its tensors under these names.
_OPERATIONS = frozenset(
    """
    Absolute Abs Divide TrueDivide Power Square Sqrt Rsqrt Exp Log Negative Mean Sum Max Min Clip
    Relu Relu6 Sigmoid LogSoftmax LogSigmoid Tanh Silu Gelu Elu Selu LeakyRelu HardSigmoid
    HardSilu Softplus Softsign GetItem Transpose ExpandDims Squeeze BroadcastTo Cast Stack Pad
    Matmul Einsum Reshape Concatenate Split Conv DepthwiseConv MaxPool AveragePool Normalize
    """.split()
)

_RUNS_CODE: Mapping[str, str] = {
    "Lambda": "Python code stored in the file",
    "__lambda__": "Python code stored in the file",
    "TFOpLambda": "a TensorFlow function named in the file",
    "SlicingOpLambda": "a TensorFlow function named in the file",
    "TensorFlowOpLayer": "a TensorFlow graph stored in the file",
    "TFSMLayer": "a TensorFlow SavedModel from another path",
    "TorchModuleWrapper": "a PyTorch pickle",
    "JaxLayer": "a JAX function stored in the file",
    "FlaxLayer": "a Flax module stored in the file",
    "function": "a Python function named in the file",
}

_TEXT = frozenset(
    """
    StringLookup IntegerLookup TextVectorization Hashing HashedCrossing CategoryEncoding
    Discretization IndexLookup CategoryCrossing
    """.split()
)
_MODULE_ROOTS = ("keras", "builtins", "tensorflow.keras", "tensorflow.python.keras", "tf_keras")


def scan(header: Header, *, allow_unsafe: bool = False) -> tuple[str, ...]:
    """Refuses an unsafe file; returns what of its own code a load will run (nothing, normally).

    **Arguments**
    - `allow_unsafe`: the user's word that code in the file may run. Links to other files and
      declarations of absurd size stay refused.

    Raises `ModelError` with the class or object at fault.
    """
    where = shown(header.path)
    _check_storage(where, header.stored)
    runs: dict[str, None] = {}
    for name, reason, harmless in _suspects(header.config):
        if harmless:
            raise ModelError(f"{where}: {reason}", "advcli audits image classifiers")
        if not allow_unsafe:
            raise ModelError(
                f"{where}: {reason}",
                "if you trust the file's author: --allow-unsafe-model"
                if name in _RUNS_CODE
                else "only layers that Keras itself provides can be loaded",
            )
        runs[reason] = None
    return tuple(runs)


def _check_storage(where: str, stored: tuple[Stored, ...]) -> None:
    declared = held = 0
    for item in stored:
        if item.storage != "plain":
            raise ModelError(
                f"{where}: its object {shown(item.name, 80)!r} is kept by {item.storage}, "
                "so it would read outside itself",
                "no Keras model needs that: do not trust this file",
            )
        declared += item.declared_bytes
        held += item.stored_bytes
        if item.declared_bytes > FREE_BYTES + MAX_RATIO * item.stored_bytes:
            raise ModelError(
                f"{where}: its weight {shown(item.name, 80)!r} declares "
                f"{item.declared_bytes:,} bytes and stores {item.stored_bytes:,}",
                "the file is damaged, or made to exhaust memory",
            )
    if declared > MAX_DECLARED_BYTES or declared > FREE_BYTES + MAX_RATIO * held:
        raise ModelError(
            f"{where}: its weights declare {declared:,} bytes and store {held:,}",
            "the file is damaged, or made to exhaust memory",
        )


def _suspects(config: object) -> Iterator[tuple[str, str, bool]]:
    """(class name, reason, refused even when unsafe is allowed) for all that is not allowed."""
    pending: list[object] = [config]
    while pending:
        item = pending.pop()
        if isinstance(item, list):
            pending.extend(item)
        if not isinstance(item, dict):
            continue
        # What trained the model is neither built nor run by a load with compile=False.
        pending.extend(value for key, value in item.items() if key != "compile_config")
        if "function_type" in item and item["function_type"] != "function":
            yield "Lambda", f"carries {_RUNS_CODE['Lambda']} (function_type)", False
        name = item.get("class_name")
        if name is None:
            continue
        yield from _judge(item, name)


def _judge(item: dict[str, Any], name: object) -> Iterator[tuple[str, str, bool]]:
    if not isinstance(name, str):
        yield "", f"has a class name that is {type(name).__name__}", True
        return
    inner = item.get("config")
    called = inner.get("name") if isinstance(inner, dict) else inner
    label = f"{shown(name, 60)!r}" + (f" ({shown(called, 60)})" if isinstance(called, str) else "")
    if name in _RUNS_CODE:
        yield name, f"its layer {label} runs {_RUNS_CODE[name]}", False
    elif name in _TEXT:
        yield name, f"its layer {label} takes text or categories, so it is no image model", True
    elif name not in _ALLOWED and not (name in _OPERATIONS and "module" in item):
        yield name, f"its layer {label} is none of Keras's own", False
    module = item.get("module")
    if module is not None and not _own(module):
        yield name, f"its layer {label} comes from the module {shown(module, 60)!r}", False
    registered = item.get("registered_name")
    if registered not in (None, "", name) and name not in _RUNS_CODE:
        yield name, f"its layer {label} is registered as {shown(registered, 60)!r}", False


def _own(module: object) -> bool:
    return isinstance(module, str) and any(
        module == root or module.startswith(f"{root}.") for root in _MODULE_ROOTS
    )

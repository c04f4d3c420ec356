"""One loader for every file: Keras 3 on a normalised private copy, proven bounded beforehand.

The copy has four reasons: Keras goes by the file's extension, the configuration in it is the
normalised one, what is loaded is what was scanned even if somebody changes the original, and its
HDF5 structure was written here (`quarantine`).
"""

from __future__ import annotations

import copy
import errno
import json
import math
import re
import shutil
import tempfile
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from advcli.errors import ModelError, NoVerdictError
from advcli.lazy import tf
from advcli.models import runtime
from advcli.models.custom import under_all_names
from advcli.models.head import Head, find_head
from advcli.models.header import Header, file_sha256, read_header, unpack_weights
from advcli.models.inputs import ImageInput, image_input, with_input_size
from advcli.models.legacy import Turn, add_bias_by_channel, objects, turn_weights, turns_of
from advcli.models.normalise import major_version, normalise
from advcli.models.quarantine import clean_copy
from advcli.models.safety import scan
from advcli.models.sniff import shown

MAX_ACTIVATION = 2**28
"""Values that one layer may compute from one image: 1 GiB of float32."""

_FREE_PARAMETERS = 2**20
_BOLD = re.compile("\x1b\\[[0-9;]*m")  # Keras's
_SCOPE = re.compile(r"[A-Za-z0-9.][A-Za-z0-9_./-]*")
_NOT_IN_SCOPE = re.compile(r"[^A-Za-z0-9_./-]")
_KERAS_ERRORS = (
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    NotImplementedError,
    RuntimeError,
    OSError,
    ImportError,
    AssertionError,
    ArithmeticError,
    MemoryError,
)


_NO_ROOM = (errno.ENOSPC, errno.EFBIG)


@dataclass(frozen=True)
class Network:
    """A Keras model of any kind, with what its file told and how it was mended.

    `runs` lists the code of the file's own that ran (empty unless the user allowed it).
    """

    header: Header
    config: dict[str, Any] = field(repr=False)
    model: Any = field(repr=False)
    rules: tuple[str, ...]
    runs: tuple[str, ...]


@dataclass(frozen=True)
class LoadedModel(Network):
    """An image classifier: also what it takes, and how it ends."""

    image: ImageInput
    head: Head


def load(
    path: str | Path,
    *,
    output: str | int | None = None,
    input_size: tuple[int, int] | None = None,
    custom: Mapping[str, Any] | None = None,
    allow_unsafe: bool = False,
) -> LoadedModel:
    """Loads an image classifier; raises `ModelError` with the reason where that cannot be done.

    **Arguments**
    - `output`: name or index of the classification output, needed where a model has several.
    - `input_size`: (height, width), for a model that leaves them open.
    - `custom`: class or function names in the file, and what the user says they are.
    - `allow_unsafe`: run the code that the file carries.
    """
    network = load_network(path, input_size=input_size, custom=custom, allow_unsafe=allow_unsafe)
    where = shown(network.header.path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = image_input(where, network.model)
        head = find_head(where, network.model, output=output, loss=network.header.loss)
    return LoadedModel(**vars(network), image=image, head=head)


def load_network(
    path: str | Path,
    *,
    input_size: tuple[int, int] | None = None,
    custom: Mapping[str, Any] | None = None,
    allow_unsafe: bool = False,
) -> Network:
    """Loads whatever Keras model a file holds, under the same safeguards as `load`."""
    header = read_header(path)
    custom = custom or {}
    runs = scan(header, allow_unsafe=allow_unsafe, custom=frozenset(custom))
    config, rules = normalise(header.config, header.keras_version)
    turns = turns_of(
        shown(header.path), config, major_version(header.keras_version), header.backend
    )
    rules += tuple(dict.fromkeys(turn.rule for turn in turns))
    if input_size is not None and with_input_size(config, input_size):
        rules = (*rules, "input-size")
    runtime.prepare()
    where = shown(header.path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras's advice to the model's author, not to our user
        try:
            known = objects() | under_all_names(config, custom)
            if not runs:
                _prove_bounded(where, header, config, known, foreign=bool(custom))
            model = _load_copy(header, config, turns, known, safe=not runs)
            if _rename(model):
                rules = (*rules, "layer-names")
            elsewhere = header.backend not in (None, "tensorflow")
            if (elsewhere or major_version(header.keras_version) < 3) and add_bias_by_channel(
                model
            ):
                rules = (*rules, "channels-first-bias")
        except (*_KERAS_ERRORS, tf.errors.OpError) as error:
            if isinstance(error, OSError) and error.errno in _NO_ROOM:
                raise NoVerdictError(
                    f"{where}: no room for a temporary copy in {tempfile.gettempdir()}: "
                    f"{error.strerror}",
                    "make room there, or name another folder: TMPDIR=…",
                ) from error
            raise ModelError(
                f"{where}: Keras cannot load it: {first_line(error)}",
                "a model of custom layers, or a damaged file; try to load it in Keras "
                f"(saved by Keras {header.keras_version or 'of unknown version'})",
            ) from error
    if not getattr(model, "inputs", None) or not getattr(model, "outputs", None):
        raise ModelError(
            f"{where}: its configuration states no input shape",
            "call the model once on an image before saving it",
        )
    return Network(header, config, model, rules, runs)


def _rename(layer: Any) -> bool:
    """Gives a layer and those within it names that TensorFlow takes for parts of a graph.

    Keras lets PyTorch and JAX users call a layer "my layer": `is not a valid scope name`.
    """
    inner = [*getattr(layer, "layers", ()), getattr(layer, "layer", None)]
    changed = sum(_rename(part) for part in inner if hasattr(part, "name")) > 0
    if _SCOPE.fullmatch(layer.name):
        return changed
    layer.name = "layer_" + _NOT_IN_SCOPE.sub("_", layer.name)
    return True


def first_line(error: BaseException) -> str:
    """What an error of Keras or TensorFlow is about, on one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # Keras wraps: the cause stands at the end, under this heading.
    for position, line in enumerate(lines):
        if line.startswith("Exception encountered:"):
            return shown(line.removeprefix("Exception encountered:").strip() or lines[position])
    if len(lines) > 1 and lines[0].startswith("Exception encountered when calling"):
        return shown(_BOLD.sub("", lines[1]))
    return shown(lines[0] if lines else type(error).__name__)


def _prove_bounded(
    where: str, header: Header, config: dict[str, Any], known: Mapping[str, Any], *, foreign: bool
) -> None:
    """Builds the model without allocating a weight, and compares its size with what is stored.

    `foreign`: some of `known` is the user's code, which may not stand that; then nothing is proven.
    """
    # In a thread of its own: Keras keeps a list, per thread, of variables still to be allocated,
    # and would allocate the refused model's with the next one that is built.
    with ThreadPoolExecutor(1) as thread:
        try:
            parameters, largest = thread.submit(
                _size, header, copy.deepcopy(config), known
            ).result()
        except (*_KERAS_ERRORS, tf.errors.OpError):
            if foreign:
                return
            raise
    stored = sum(math.prod(shape) for shape in header.weight_shapes.values())
    if parameters > _FREE_PARAMETERS + 2 * stored:
        raise ModelError(
            f"{where}: its configuration needs {parameters:,} parameters, "
            f"and {stored:,} are stored",
            "the file is damaged, or made to exhaust memory",
        )
    if largest > MAX_ACTIVATION:
        raise ModelError(
            f"{where}: one of its layers computes {largest:,} values from one image",
            "the file is damaged, or made to exhaust memory",
        )


def _size(header: Header, config: dict[str, Any], known: Mapping[str, Any]) -> tuple[int, int]:
    """Parameters, and values that the largest layer computes from one image."""
    import keras

    with (
        keras.StatelessScope(initialize_variables=False),
        keras.saving.custom_object_scope(known),
    ):
        model = _from_config(header, config)
        parameters = sum(math.prod(variable.shape) for variable in model.variables)
        return parameters, max(_activation_sizes(model), default=0)


def _from_config(header: Header, config: dict[str, Any]) -> Any:
    import keras

    if header.kind == "keras":
        # how it was trained is no matter, and its optimizer's variables cannot be made here
        plain = {key: value for key, value in config.items() if key != "compile_config"}
        return keras.models.model_from_json(json.dumps(plain))
    if config["class_name"] == "Sequential":
        return keras.Sequential.from_config(config["config"])
    if config["class_name"] in ("Functional", "Model"):
        return keras.Model.from_config(config["config"])
    raise ValueError(f"{shown(config['class_name'], 60)} is the class of no model")


def _activation_sizes(model: Any) -> Iterator[int]:
    """Values per image of every layer's output, nested models included."""
    for layer in model.layers:
        if hasattr(layer, "layers"):
            yield from _activation_sizes(layer)
        if type(layer).__name__ == "Concatenate" and layer.axis == 0:
            raise ValueError(f"{shown(layer.name, 60)} puts images behind each other")
        for node in layer._inbound_nodes:
            for tensor in node.output_tensors:
                yield math.prod(n or 1 for n in tuple(tensor.shape)[1:])


def _load_copy(
    header: Header,
    config: dict[str, Any],
    turns: list[Turn],
    known: Mapping[str, Any],
    *,
    safe: bool,
) -> Any:
    import keras

    with tempfile.TemporaryDirectory(prefix="advcli-") as folder:
        private = Path(folder) / "original"
        shutil.copyfile(header.path, private)
        if file_sha256(private) != header.sha256:
            raise ModelError(f"{shown(header.path)}: changed while it was read", "try again")
        copied = Path(folder) / f"model.{header.kind}"
        if header.kind == "h5":
            _clean(header, private, copied, json.dumps(config))
            turn_weights(copied, turns)
        else:
            _clean_archive(header, private, copied, json.dumps(config))
        with keras.saving.custom_object_scope(known):
            return keras.models.load_model(copied, compile=False, safe_mode=safe)


def _clean(header: Header, source: Path, target: Path, config: str | None) -> None:
    size = sum(item.declared_bytes for item in header.stored)
    clean_copy(source, target, config, size, header.path)


def _clean_archive(header: Header, source: Path, target: Path, config: str) -> None:
    weights, clean = source.with_name("unpacked.h5"), source.with_name("clean.h5")
    with zipfile.ZipFile(source) as archive, zipfile.ZipFile(target, "w") as written:
        unpack_weights(header.path, archive, weights)
        _clean(header, weights, clean, None)
        written.writestr("config.json", config)
        written.writestr("metadata.json", json.dumps({"keras_version": header.keras_version}))
        written.write(clean, "model.weights.h5")

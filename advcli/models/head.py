"""A classifier's last steps: where its logits are, under a softmax or sigmoid that ends it.

Attacks need logits: `log(clip(softmax))` has exactly zero gradient where float32 saturates. The
logits are read off inside the unmodified model: for the duration of one trace the last activation
notes what it was given. So the probabilities and the logits come from one and the same forward
pass, nested models need no surgery, and the model stays as it was loaded.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from advcli.errors import ModelError
from advcli.lazy import Tensor, tf

Ending = Literal[
    "softmax", "sigmoid unit", "sigmoids", "tanh unit", "tanh", "logits", "probabilities"
]

_HINT = "advcli audits image classifiers: one image in, one score per class out"
_ACTIVATED = frozenset(("Dense", "EinsumDense", "Conv1D", "Conv2D", "Activation"))
_TRANSPARENT = frozenset(
    (
        "Flatten",
        "Reshape",
        "Dropout",
        "SpatialDropout1D",
        "SpatialDropout2D",
        "GaussianDropout",
        "GaussianNoise",
        "AlphaDropout",
        "Identity",
        "ActivityRegularization",
        "Cast",
        "Squeeze",
    )
)
_HINGES = ("hinge", "squared_hinge")
_REGRESSION_LOSSES = ("mse", "mae", "mean_squared", "mean_absolute", "huber", "log_cosh", "logcosh")
SMALLEST = 1e-37
"""Where log-probabilities are clipped: the smallest normal float32, rounded up."""


@dataclass(frozen=True)
class Head:
    """How a model's output becomes logits of `class_count` classes.

    `layer` is the last activation's layer and `attribute` the function of it that is listened to;
    both are None where there is nothing to peel.
    """

    ending: Ending
    class_count: int
    output: int
    name: str
    layer: Any = field(default=None, repr=False)
    attribute: str | None = None

    @contextlib.contextmanager
    def listening(self) -> Iterator[list[Tensor]]:
        """While open, every call of the last activation adds its input to the list."""
        heard: list[Tensor] = []
        if self.layer is None or self.attribute is None:
            yield heard
            return
        original = getattr(self.layer, self.attribute)
        own = self.attribute in vars(self.layer)

        def listener(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            heard.append(x)
            return original(x, *args, **kwargs)

        # Past Keras's own __setattr__, which keeps an account of what a layer owns.
        object.__setattr__(self.layer, self.attribute, listener)
        try:
            yield heard
        finally:
            if own:
                object.__setattr__(self.layer, self.attribute, original)
            else:
                object.__delattr__(self.layer, self.attribute)

    def select(self, outputs: Any) -> Tensor:
        """The classification output among what the model returned."""
        return tf.nest.flatten(outputs)[self.output]

    def forward(self, run: Callable[[], Any]) -> tuple[Tensor, Tensor]:
        """(logits [B, K], the model's own output [B, 1 or K]) of one call, both float32."""
        with self.listening() as heard:
            output = self.select(run())
        unit = self.ending in ("sigmoid unit", "tanh unit")
        width = 1 if unit else self.class_count
        output = tf.reshape(tf.cast(output, tf.float32), (-1, width))
        if self.ending == "logits":
            return output, output
        if self.ending == "probabilities":
            return tf.math.log(tf.maximum(output, SMALLEST)), output
        z = tf.reshape(tf.cast(heard[-1], tf.float32), (-1, width))
        if unit:  # tanh(z) = 2·sigmoid(2·z) − 1
            z = tf.concat([tf.zeros_like(z), 2.0 * z if self.ending == "tanh unit" else z], axis=1)
        return z, output

    def predict(self, output: Tensor) -> Tensor:
        """Class indices int64 [B] from the model's own output."""
        if self.ending in ("sigmoid unit", "tanh unit"):
            middle = 0.5 if self.ending == "sigmoid unit" else 0.0
            return tf.cast(tf.reshape(output, (-1,)) > middle, tf.int64)
        return tf.argmax(tf.reshape(output, (-1, self.class_count)), axis=1)


def find_head(where: str, model: Any, *, output: str | int | None, loss: str | None) -> Head:
    """Finds the classification output; raises `ModelError` where there is none, or several."""
    index, name = _choose_output(where, model, output)
    tensor = model.outputs[index]
    width = _width(where, tuple(tensor.shape)[1:])
    layer, attribute, kind = _last_activation(model, index)
    loss = (loss or "").lower()
    if width == 1 and kind != "sigmoid" and not (kind == "tanh" and loss in _HINGES):
        raise ModelError(
            f"{where}: ends in one {kind or 'linear'} unit, so it estimates a number", _HINT
        )
    if output is None and kind in ("linear", "tanh") and loss.startswith(_REGRESSION_LOSSES):
        raise ModelError(
            f"{where}: ends in {width} {kind} units trained with {loss}, so it estimates numbers",
            f"if they are scores of classes all the same, say so: --output {name}",
        )
    if kind == "softmax":
        return Head("softmax", width, index, name, layer, attribute)
    if kind == "tanh":
        ending: Ending = "tanh unit" if width == 1 else "tanh"
        return Head(ending, max(width, 2), index, name, layer, attribute)
    if kind == "sigmoid":
        ending = "sigmoid unit" if width == 1 else "sigmoids"
        return Head(ending, max(width, 2), index, name, layer, attribute)
    return Head("logits", width, index, name)


def without_peeling(head: Head) -> Head:
    """The same output where its probabilities are all there is."""
    return Head("probabilities", head.class_count, head.output, head.name)


def _choose_output(where: str, model: Any, output: str | int | None) -> tuple[int, str]:
    names = [str(name) for name in getattr(model, "output_names", ())]
    if len(names) != len(model.outputs):
        names = [str(index) for index in range(len(model.outputs))]
    listed = ", ".join(f"{i} = {name}" for i, name in enumerate(names))
    if output is not None:
        if str(output) in names:
            index = names.index(str(output))
        elif str(output).isdecimal() and int(output) < len(names):
            index = int(output)
        else:
            raise ModelError(
                f"{where}: has no output {output!r}", f"--output takes one of: {listed}"
            )
        return index, names[index]
    if len(names) == 1:
        return 0, names[0]
    likely = [i for i in range(len(names)) if _last_activation(model, i)[2] == "softmax"]
    if len(likely) == 1:
        return likely[0], names[likely[0]]
    raise ModelError(
        f"{where}: has {len(names)} outputs, and which one classifies is not clear",
        f"choose with --output: {listed}",
    )


def _width(where: str, shape: tuple[int | None, ...]) -> int:
    if not shape or None in shape[:-1] or shape[-1] is None:
        raise ModelError(f"{where}: its output has no fixed number of classes", _HINT)
    if any(n != 1 for n in shape[:-1]):
        described = "×".join(map(str, shape))
        raise ModelError(
            f"{where}: its output has shape {described}: scores for places or boxes, "
            "not one per class",
            _HINT,
        )
    return shape[-1]


def _last_activation(model: Any, index: int) -> tuple[Any, str | None, str | None]:
    """(layer, attribute, kind) of what ends an output; kind None where nobody knows.

    Walks backwards from the output through layers that hand values on unchanged, and down into
    nested models.
    """
    tensor = model.outputs[index]
    for _ in range(100):
        history = tensor._keras_history
        layer = history.operation
        name = type(layer).__name__
        if hasattr(layer, "layers") and hasattr(layer, "outputs"):
            inner = tf.nest.flatten(layer.outputs)
            tensor = inner[history.tensor_index]
            continue
        if name in _ACTIVATED:
            kind = getattr(layer.activation, "__name__", None)
            if kind in ("softmax", "sigmoid", "tanh"):
                return layer, "activation", kind
            if name != "Activation" or kind != "linear":
                return layer, None, kind
        elif name in ("Softmax", "Sigmoid"):
            return layer, "call", name.lower()
        elif name not in _TRANSPARENT:
            return layer, None, None
        parents = layer._inbound_nodes[history.node_index].input_tensors
        if len(parents) != 1:
            return layer, None, None
        tensor = parents[0]
    return None, None, None

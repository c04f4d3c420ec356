"""AdvGAN: a network that makes adversarial images in one forward pass, trained on a part of them.

Claims: the weakness of a model can be learned. A generator G sees an image and answers with its
perturbation; it is trained so that the model errs on x + eps·G(x), that a discriminator takes the
result for a clean image, and, where `hinge-weight` is positive, that the perturbation is small.
After training it needs neither gradients nor the model: one forward pass per image.

The generator is kept as `generator.keras` in the run, and `--generator FILE` uses it again without
training. Its output, between −1 and 1, is multiplied by eps, so it lies in the ball at any eps;
it fits best the eps that it was trained at.

Differs from the authors' losses in that the output is scaled by eps where they clip it (a clipped
value has no gradient), in that the adversarial loss is a cross-entropy at the model's own scale,
cut off, where theirs is a margin of probabilities, which vanishes where the softmax saturates, and
in that images are moved a little at random (`jitter`) to learn from them: from a few hundred the
generator would otherwise learn those images.

Misleads: a search on each image finds more. A low figure says that the fooling direction is easy to
guess; a high one says little. Few images to learn from make a weak generator. A generator that
was trained on the images that are judged would flatter itself: images are split by content and
seed, and only those not learned from are judged.

Cost: `steps` × `batch` gradients once; then no gradient and one forward per image.

Xiao et al., "Generating adversarial examples with adversarial networks", 1801.02610.
"""

from __future__ import annotations

import itertools
import tempfile
import warnings
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from advcli.attacks.fitted import Fitted, FittedAttack, Task, Trainer
from advcli.errors import ModelError
from advcli.images.text import printable
from advcli.lazy import Tensor, tf
from advcli.threats.budget import Norm
from advcli.threats.randomness import Random
from advcli.threats.space import per_row

__all__ = ["AdvGAN", "read_generator"]

FILE = "generator.keras"
_RATE = 1e-3
_SETTLING = 5 / 6  # of the training; then a tenth of the rate, as after epoch 50 of the authors' 60


class Generator(Fitted):
    """`model`: images [S, H, W, C] in [0, 1] -> the perturbation as a share of eps."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def apply(self, x: Tensor, eps: Tensor, random: Random) -> Tensor:
        delta = tf.clip_by_value(self._model(x, training=False), -1.0, 1.0)
        return x + per_row(eps, x) * delta

    def files(self) -> dict[str, bytes]:
        with tempfile.TemporaryDirectory(prefix="advcli-") as folder:
            file = Path(folder) / FILE
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Keras's use of NumPy
                self._model.save(file)
            return {FILE: file.read_bytes()}


class AdvGAN(FittedAttack):
    name: ClassVar[str] = "advgan"
    summary: ClassVar[str] = "a generator network trained on a part of the images"
    norms: ClassVar[tuple[Norm, ...]] = ("linf",)
    reference: ClassVar[str] = "Xiao et al., 1801.02610"

    steps: int = Field(600, ge=1, le=1_000_000, description="batches that it learns from")
    adversarial_weight: float = Field(10.0, ge=0, le=1e6, description="weight of that loss")
    gan_weight: float = Field(1.0, ge=0, le=1e6, description="weight of the discriminator's word")
    hinge_weight: float = Field(0.0, ge=0, le=1e6, description="weight of the perturbation's size")
    hinge: float = Field(
        0.5, ge=0, le=1, description="root mean square, as a share of eps, that costs nothing"
    )
    filters: int = Field(16, ge=1, le=512, description="width of the generator's first layer")

    def trainer(self, task: Task) -> Trainer:
        return _Trainer(self, task)

    def load(self, folder: Path, shape: tuple[int, int, int]) -> Fitted:
        return read_generator(folder / FILE, shape)

    def fit_cost(self) -> tuple[int, int]:
        return self.steps * self.batch, self.steps * self.batch


def read_generator(file: Path, shape: tuple[int, int, int]) -> Generator:
    """A generator from a file that nobody has looked at yet, under a model file's safeguards.

    Raises ModelError for one that is unsafe, damaged, or not for images of `shape` (H, W, C).
    """
    from advcli.models.loader import load_network

    model = load_network(file).model
    where = printable(str(file))
    ends = [
        [None if n is None else int(n) for n in tuple(end.shape)[1:]]
        for ends in (model.inputs, model.outputs)
        for end in ends
    ]
    wanted = list(shape)
    if len(ends) != 2 or any(
        len(end) != 3 or any(n not in (None, m) for n, m in zip(end, wanted, strict=True))
        for end in ends
    ):
        found = " to ".join("×".join("?" if n is None else str(n) for n in end) for end in ends)
        raise ModelError(
            f"{where}: maps {found}, and a generator for this model maps "
            f"{'×'.join(map(str, wanted))} to the same",
            "give a generator that was trained on a model with this input (fitted/advgan/… in "
            "its run)",
        )
    return Generator(model)


class _Trainer(Trainer):
    def __init__(self, settings: AdvGAN, task: Task) -> None:
        import keras

        self._settings, self._task = settings, task
        seeds = itertools.count(task.seed * 1000)
        self._generator = _generator(task.shape, settings.filters, seeds)
        self._discriminator = _discriminator(task.shape, seeds)
        self._optimizers = [keras.optimizers.Adam(_RATE) for _ in range(2)]
        for optimizer, network in zip(self._optimizers, self._networks, strict=True):
            optimizer.build(network.trainable_variables)

    @property
    def _networks(self) -> tuple[Any, Any]:
        return self._generator, self._discriminator

    def step(self, x: Tensor, label: Tensor, done: Tensor) -> Tensor:
        settings = self._settings
        with tf.GradientTape(persistent=True) as tape:
            delta = self._generator(x, training=True)
            fake = tf.clip_by_value(x + self._task.eps * delta, 0.0, 1.0)
            loss, fooled = self._task.loss(fake, label)
            word = self._discriminator(fake, training=True)
            size = tf.sqrt(tf.reduce_mean(tf.square(delta), axis=[1, 2, 3]) + 1e-12)
            generator_loss = (
                settings.gan_weight * tf.reduce_mean(tf.square(word - 1.0))
                - settings.adversarial_weight * tf.reduce_mean(loss)
                + settings.hinge_weight * tf.reduce_mean(tf.nn.relu(size - settings.hinge))
            )
            real = self._discriminator(x, training=True)
            seen = self._discriminator(tf.stop_gradient(fake), training=True)
            discriminator_loss = tf.reduce_mean(tf.square(real - 1.0)) + tf.reduce_mean(
                tf.square(seen)
            )
        rate = tf.where(done < _SETTLING, _RATE, 0.1 * _RATE)
        losses = (generator_loss, discriminator_loss)
        for network, optimizer, value in zip(self._networks, self._optimizers, losses, strict=True):
            variables = network.trainable_variables
            optimizer.learning_rate.assign(rate)
            optimizer.apply(tape.gradient(value, variables), variables)
        return fooled

    def fitted(self) -> Fitted:
        return Generator(self._generator)


def _generator(shape: tuple[int, int, int], filters: int, seeds: Any) -> Any:
    """The authors' encoder, four residual blocks and decoder; any height and width.

    Group normalisation stands for their instance normalisation, which leaves nothing of an image
    that the encoder has brought down to one place.
    """
    import keras
    from keras import layers

    height, width, channels = shape

    def convolved(y: Any, count: int, stride: int, *, up: bool = False) -> Any:
        kind = layers.Conv2DTranspose if up else layers.Conv2D
        return kind(
            count,
            3,
            strides=stride,
            padding="same",
            use_bias=False,
            kernel_initializer=keras.initializers.GlorotUniform(next(seeds)),
        )(y)

    def normed(y: Any, *, active: bool = True) -> Any:
        y = layers.GroupNormalization(groups=1)(y)
        return layers.ReLU()(y) if active else y

    image = keras.Input(shape)
    y = layers.Rescaling(2.0, offset=-1.0)(image)
    y = layers.ZeroPadding2D(((0, -height % 4), (0, -width % 4)))(y)
    for count, stride in ((filters, 1), (2 * filters, 2), (4 * filters, 2)):
        y = normed(convolved(y, count, stride))
    for _ in range(4):
        inner = normed(convolved(y, 4 * filters, 1))
        y = layers.Add()([y, normed(convolved(inner, 4 * filters, 1), active=False)])
    for count in (2 * filters, filters):
        y = normed(convolved(y, count, 2, up=True))
    y = layers.Activation("tanh")(convolved(y, channels, 1))
    y = layers.Cropping2D(((0, -height % 4), (0, -width % 4)))(y)
    return keras.Model(image, y, name="generator")


def _discriminator(shape: tuple[int, int, int], seeds: Any) -> Any:
    """The authors' three strided convolutions; an answer for each region of the image."""
    import keras
    from keras import layers

    image = keras.Input(shape)
    y = layers.Rescaling(2.0, offset=-1.0)(image)
    for place, count in enumerate((8, 16, 32)):
        y = layers.Conv2D(
            count,
            4,
            strides=2,
            padding="same",
            kernel_initializer=keras.initializers.GlorotUniform(next(seeds)),
        )(y)
        if place:
            y = layers.GroupNormalization(groups=1)(y)
        y = layers.LeakyReLU(negative_slope=0.2)(y)
    y = layers.Conv2D(
        1, 1, activation="sigmoid", kernel_initializer=keras.initializers.GlorotUniform(next(seeds))
    )(y)
    return keras.Model(image, y, name="discriminator")

"""Training and the figures behind the sample models: all that runs TensorFlow.

Images are float32 in the net's own range, channels-last; labels are integer class indices.
Gradients are taken inside `tf.function` only: on CPU some eager input gradients crash TensorFlow.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

Images = NDArray[np.float32]
Labels = NDArray[np.int64]

BATCH = 64


def logits_of(net: Any, training: bool = False) -> Callable[[Any], Any]:
    """Return a function from a batch of images to the values below the softmax of `net`."""
    head = net.layers[-1]
    body = keras.Model(net.inputs, net.layers[-2].output)
    return lambda x: tf.matmul(body(x, training=training), head.kernel) + head.bias


def cross_entropy(labels: Any, logits: Any) -> Any:
    """Return the cross-entropy of each image's integer label, in nats."""
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)


def pgd(net: Any, steps: int) -> Callable[[Any, Any, Any], Any]:
    """Return L∞ PGD with a random start: (images in [0, 1], labels, eps) to perturbed images.

    A step is 2.5·eps/steps long. Madry et al., "Towards Deep Learning Models Resistant to
    Adversarial Attacks", ICLR 2018.
    """
    logits = logits_of(net)

    @tf.function(reduce_retracing=True)
    def attack(x: Any, y: Any, eps: Any) -> Any:
        low, high = tf.maximum(x - eps, 0.0), tf.minimum(x + eps, 1.0)
        adv = tf.clip_by_value(x + tf.random.uniform(tf.shape(x), -eps, eps), low, high)
        for _ in tf.range(steps):
            with tf.GradientTape() as tape:
                tape.watch(adv)
                loss = tf.reduce_sum(cross_entropy(y, logits(adv)))
            uphill = tf.sign(tape.gradient(loss, adv))
            adv = tf.clip_by_value(adv + 2.5 * eps / steps * uphill, low, high)
        return adv

    return attack


def shifted(x: Images, rng: np.random.Generator, reach: int = 2) -> Images:
    """Return each image moved by up to `reach` pixels on both axes, its edge repeated."""
    height, width = x.shape[1:3]
    padded = np.pad(x, ((0, 0), (reach, reach), (reach, reach), (0, 0)), mode="edge")
    corners = rng.integers(0, 2 * reach + 1, (len(x), 2))
    moved = zip(padded, corners, strict=True)
    return np.stack([image[r : r + height, c : c + width] for image, (r, c) in moved])


def batches(x: Images, y: Labels, rng: np.random.Generator) -> Iterator[tuple[Images, Labels]]:
    """Yield one epoch of shuffled, shifted batches of one fixed size (a rest is left out)."""
    order = rng.permutation(len(x))
    for start in range(0, len(x) - BATCH + 1, BATCH):
        rows = order[start : start + BATCH]
        yield shifted(x[rows], rng), y[rows]


def train(
    net: Any,
    x: Images,
    y: Labels,
    *,
    epochs: int,
    seed: int,
    eps: float = 0.0,
    attack_steps: int = 7,
) -> None:
    """Train `net` in place: AdamW, cosine rate, shifts; on PGD's images where `eps` is positive.

    The budget grows from zero over the first third of the epochs: at full strength from the start,
    small nets stay at chance.
    """
    rng = np.random.default_rng(seed)
    steps = epochs * (len(x) // BATCH)
    rate = keras.optimizers.schedules.CosineDecay(
        2e-4, steps - steps // 10, warmup_target=2e-3, warmup_steps=steps // 10
    )
    optimizer = keras.optimizers.AdamW(rate, weight_decay=1e-3)
    optimizer.build(net.trainable_variables)
    logits = logits_of(net, training=True)
    attack = pgd(net, attack_steps) if eps > 0 else None

    @tf.function(reduce_retracing=True)
    def update(images: Any, labels: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(cross_entropy(labels, logits(images)))
        gradients = tape.gradient(loss, net.trainable_variables)
        optimizer.apply_gradients(zip(gradients, net.trainable_variables, strict=True))
        return loss

    for epoch in range(1, epochs + 1):
        budget = tf.constant(eps * min(1.0, 3 * epoch / epochs))
        losses = []
        for images, labels in batches(x, y, rng):
            batch = tf.constant(images)
            if attack is not None:
                batch = attack(batch, labels, budget)
            losses.append(float(update(batch, labels)))
        if epoch % 10 == 0 or epoch == epochs:
            print(
                f"  epoch {epoch}/{epochs}: loss {math.fsum(losses) / len(losses):.4f}", flush=True
            )


def correct(net: Any, x: Any, y: Labels) -> NDArray[np.bool_]:
    """Return, image for image, whether the largest output is the label."""
    return np.argmax(net.predict(x, batch_size=256, verbose=0), axis=1) == y


def clean_accuracy(net: Any, x: Images, y: Labels) -> float:
    """Return the share of images that `net` gets right."""
    return float(np.mean(correct(net, x, y)))


def noise_accuracy(net: Any, x: Images, y: Labels, eps: float, repeats: int = 10) -> float:
    """Return the share of images right under each of `repeats` draws of uniform noise."""
    rng = np.random.default_rng(0)
    kept = np.ones(len(x), bool)
    for _ in range(repeats):
        noisy = np.clip(x + rng.uniform(-eps, eps, x.shape), 0, 1).astype(np.float32)
        kept &= correct(net, noisy, y)
    return float(np.mean(kept))


def pgd_accuracy(net: Any, x: Images, y: Labels, eps: float) -> float:
    """Return the share of images right after 40 steps of PGD, one random start."""
    attack = pgd(net, 40)
    return clean_accuracy(net, attack(tf.constant(x), y, tf.constant(eps)).numpy(), y)

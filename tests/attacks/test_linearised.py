"""FAB, DeepFool, EAD and L∞ C&W: what the contract suite does not ask of every attack."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tests.attacks.test_contract import attack, subjects_of
from tests.support.linear import LinearModel, exact_distance, images

SHAPE = (6, 6, 1)


def distances(model, clean, name, norm, **settings):
    settings.setdefault("pixels", "float")
    outcomes = attack(
        model, name.split(":")[0], norm, subjects_of(model, clean), spec=name, **settings
    )
    return np.array(
        [
            o.distance[norm] if o.success else np.inf
            for o in sorted(outcomes, key=lambda o: int(o.key))
        ]
    )


def test_fab_t_searches_every_target_and_keeps_the_closest():
    """A chain of targets that ended at its first success would give the likeliest one's."""
    model = LinearModel(SHAPE, 10, seed=21)
    model.W *= np.geomspace(0.1, 4.0, 10, dtype=np.float32)  # the likeliest is seldom the nearest
    model.b = -0.5 * model.W.sum(axis=0)
    clean = images(SHAPE, 24, seed=22)
    exact = np.array([exact_distance(model, image, "l2") for image in clean])
    likeliest = []
    for image in clean:
        z = model.confirm(image[None] / 255.0).logits[0]
        second = int(np.argsort(z)[-2])
        likeliest.append(exact_distance(model, image, "l2", second))
    one = distances(model, clean, "fab-t:targets=1,iterations=30", "l2")
    all_of_them = distances(model, clean, "fab-t:iterations=30", "l2")
    assert np.mean(np.array(likeliest) > 1.02 * exact) > 0.1
    assert all_of_them == pytest.approx(exact, rel=0.01)
    # a plane towards one class may cross another's boundary on the way
    assert (one <= 1.01 * np.array(likeliest)).all()
    assert (one > 1.02 * exact).any()


@pytest.mark.parametrize("name", ["fab", "fab-t"])
def test_restarts_only_add(name):
    model = Curved(SHAPE, 4, seed=23)
    clean = images(SHAPE, 16, seed=24)
    one = distances(model, clean, f"{name}:iterations=8", "l2")
    more = distances(model, clean, f"{name}:iterations=8,restarts=4", "l2")
    assert (more <= one * (1 + 5e-3)).all()
    assert (more < 0.995 * one).any()


@pytest.mark.parametrize(("name", "norm"), [("fab", "l1"), ("fab-t", "linf"), ("deepfool", "l2")])
def test_a_model_without_slope_yields_nothing_and_no_nonsense(name, norm):
    class Flat(LinearModel):
        def logits(self, x):
            return tf.stop_gradient(super().logits(x))

    model = Flat(SHAPE, 3)
    clean = images(SHAPE, 4)
    assert np.isinf(distances(model, clean, name, norm)).all()


@pytest.mark.parametrize(
    ("name", "norm"),
    [("fab", "linf"), ("fab-t", "l2"), ("deepfool", "linf"), ("deepfool", "l2"), ("cw", "linf")],
)
def test_a_boundary_within_a_level_is_crossed_on_the_grid(name, norm):
    """A step that rounding undoes must not be taken for ever."""
    model = LinearModel(SHAPE, 2, seed=25)
    clean = images(SHAPE, 12, seed=26, low=100, high=156)
    z = model.confirm(clean / 255.0).logits
    nearest = np.argmin(np.abs(z[:, 0] - z[:, 1]))
    clean = clean[nearest : nearest + 1]
    gap = float(z[nearest, 0] - z[nearest, 1])
    w = model.W[:, 0] - model.W[:, 1]
    level = np.abs(w).sum() / 255
    model.b[0] -= gap - np.sign(gap) * 0.02 * level  # a fiftieth of a level away
    found = distances(model, clean, name, norm, pixels="uint8")
    limit = {"linf": 1.01 / 255, "l2": 6.01 / 255}[norm]
    assert found[0] <= limit


def test_deepfool_goes_beyond_the_boundary_by_its_overshoot_and_no_more():
    model = LinearModel(SHAPE, 2, seed=27)
    clean = images(SHAPE, 16, seed=28, low=110, high=146)
    exact = np.array([exact_distance(model, image, "l2") for image in clean])
    for overshoot in (0.02, 0.3):
        found = distances(model, clean, f"deepfool:overshoot={overshoot},refine=0", "l2")
        assert found == pytest.approx((1 + overshoot) * exact, rel=2e-3)
        found = distances(model, clean, f"deepfool:overshoot={overshoot}", "l2")
        assert found == pytest.approx(exact, rel=6e-3)


@pytest.mark.parametrize(("name", "norm"), [("cw:steps=300", "linf"), ("ead:steps=200", "l1")])
def test_the_scale_of_the_logits_does_not_matter(name, norm):
    clean = images(SHAPE, 8, seed=30)
    plain, scaled = (
        distances(LinearModel(SHAPE, 3, seed=29, scale=scale), clean, name, norm)
        for scale in (1.0, 60.0)
    )
    assert scaled == pytest.approx(plain, rel=0.01)


def test_cw_settles_on_the_grid():
    """Once a level less has failed there is nothing left to look for."""
    model = LinearModel((6, 6, 1), 3, seed=4)
    clean = images(model.input_shape, 8, seed=5)
    spec = "cw:steps=100,searches=50"
    outcomes = attack(model, "cw", "linf", subjects_of(model, clean), spec=spec)
    assert all(o.success for o in outcomes)
    assert max(o.gradients for o in outcomes) < 1500


class Curved(LinearModel):
    """Boundaries that bend, so that where a search starts makes a difference."""

    def logits(self, x):
        flat = tf.reshape(x, [-1, self.W.shape[0]]) - 0.5
        wave = tf.sin(9.0 * flat @ tf.constant(self.W[:, ::-1]))
        return flat @ tf.constant(self.W) + 0.5 * wave

    def confirm(self, x):
        z = self.logits(tf.constant(np.asarray(x, np.float32))).numpy()
        confirmed = super().confirm(x)
        return type(confirmed)(z.argmax(axis=1), z)

"""The boundary attack's proposals, its count of queries, and the adaptation of its steps."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from advcli.attacks.boundary import WALK, Boundary
from advcli.threats.randomness import Random
from advcli.threats.space import Space
from tests.attacks.test_decision import row_of, run, subjects
from tests.support.linear import LinearModel, images

SHAPE = (6, 7, 3)


def walking(x, row, **steps):
    attack, space = Boundary(), Space("l2", SHAPE)
    random = Random(row.key, row.restart)
    state = attack.init(row, space, random)._replace(x=x, **steps)
    return attack, state._replace(phase=state.phase + WALK), space, random


def test_proposals_lie_on_two_spheres():
    row = row_of(np.full((2, *SHAPE), 0.5, np.float32))
    away = np.random.default_rng(0).normal(size=row.x0.shape).astype(np.float32) * 0.02
    sideways, inwards = np.float32([0.1, 0.5]), np.float32([0.02, 0.3])
    attack, state, space, random = walking(
        row.x0 + away, row, sideways=tf.constant(sideways), inwards=tf.constant(inwards)
    )
    points = attack._proposals(row, state, space, 0.0, random).numpy()
    moved = (points - row.x0.numpy()[:, None]).reshape(2, 8, -1)
    reach = np.linalg.norm(moved, axis=2)
    radius = np.linalg.norm(away.reshape(2, -1), axis=1)
    assert np.allclose(reach[:, :7], ((1 - inwards) * radius)[:, None], rtol=1e-5)
    assert np.allclose(reach[:, 7], radius, rtol=1e-5)
    along = away.reshape(2, 1, -1) / radius[:, None, None]
    cosine = (moved * along).sum(axis=2) / reach
    assert np.allclose(cosine, (1 / np.sqrt(1 + sideways**2))[:, None], atol=1e-5)
    # the look is at the sideways half of the first
    directions = moved / reach[:, :, None]
    assert np.allclose(directions[:, 7], directions[:, 0], atol=1e-5)


def test_on_the_grid_the_shortest_steps_still_move_whole_levels():
    clean = np.random.default_rng(1).integers(60, 190, (4, *SHAPE)) / np.float32(255)
    row = row_of(clean.astype(np.float32))
    away = np.random.default_rng(2).integers(-9, 10, row.x0.shape) / np.float32(255)
    tiny = tf.fill([4], 1e-5)
    attack, state, space, random = walking(row.x0 + away, row, sideways=tiny, inwards=tiny)
    points = attack._proposals(row, state, space, 1 / 255, random).numpy()
    levels = (points - state.x.numpy()[:, None]) * 255
    assert np.abs(levels - np.round(levels)).max() < 1e-3
    changed = (np.round(levels[:, :7]) != 0).reshape(4, 7, -1).sum(axis=2)
    assert 0.5 < changed.mean() < 4
    distance = np.linalg.norm(away.reshape(4, 1, -1), axis=2)
    reach = np.linalg.norm((points - clean[:, None])[:, :7].reshape(4, 7, -1), axis=2)
    assert 0.2 < (reach < distance * (1 - 1e-6)).mean() < 0.9  # those worth a query


def test_successes_lengthen_the_steps_and_failures_shorten_them():
    row = row_of(np.full((3, *SHAPE), 0.5, np.float32))
    attack, state, _, _ = walking(row.x0, row)
    points = tf.zeros([3, 8, *SHAPE])
    met = np.zeros((3, 8), bool)
    met[0, 0] = met[1, 4] = True
    used = np.ones((3, 8), bool)
    used[0, 1:7] = used[1, 5:7] = False
    met[1, 7] = True
    new, done = attack._after_walk(state, points, tf.constant(met), tf.constant(used))
    inwards = (new.inwards / state.inwards).numpy()
    assert np.allclose(np.log(inwards) / np.log(1.5), [0.88, 0.4, -0.84], atol=1e-4)
    sideways = (new.sideways / state.sideways).numpy()
    assert np.allclose(
        np.log(sideways) / np.log(1.5), [0.44 - 0.28, 0.2 + 0.72, -0.42 - 0.28], atol=1e-4
    )
    assert new.idle.numpy().tolist() == [0, 0, 7]
    assert not done.numpy().any()


def test_it_ends_where_nothing_succeeds_any_more():
    model = LinearModel((6, 6, 1), 3, seed=1)
    clean = images(model.input_shape, 6, seed=2)
    outcomes = run(model, "boundary", subjects(model, clean), "uint8", "boundary:patience=100")
    assert all(o.success for o in outcomes)
    assert max(o.forwards for o in outcomes) < 10_000

"""What a network reads of sequences: their values, their changes, several steps at once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnn_jax.data.series import Form, Scaling, SeriesInfo
from rnn_jax.tasks.features import features, num_features


def make_info(steps: int, per_step: bool = False) -> SeriesInfo:
    form = Form("classify", ("a", "b"), "class", ("x", "y"), per_step)
    scaling = Scaling((0.0, 0.0), (1.0, 1.0))
    return SeriesInfo("n", "s", "", form, "error", (0.0, 0.0), scaling, rates=(0.5, 0.0), steps=steps)


def test_changes_are_scaled_and_a_channel_without_any_has_none():
    xs = jnp.array([[[1.0, 7.0], [2.0, 7.0], [4.0, 7.0]]])
    found, lengths = features(make_info(3), xs)
    assert lengths is None
    np.testing.assert_allclose(found[:, 0], [[1, 7, 0, 0], [2, 7, 2, 0], [4, 7, 4, 0]])


@pytest.mark.parametrize(("steps", "k"), [(40, 1), (41, 2), (251, 7)])
def test_long_sequences_are_read_several_steps_at_once(steps, k):
    info = make_info(steps)
    xs = jax.random.normal(jax.random.key(0), (3, steps, 2))
    plain, _ = features(make_info(3), xs[:, :steps])
    found, lengths = features(info, xs, jnp.array([steps, 1, k + 1]))
    assert found.shape == (-(-steps // k), 3, num_features(info)) == (-(-steps // k), 3, 4 * k)
    np.testing.assert_array_equal(lengths, [-(-steps // k), 1, 1 + (k + 1 > 1) if k == 1 else 2])
    for t in range(steps):
        np.testing.assert_allclose(found[t // k, 0, 4 * (t % k) : 4 * (t % k) + 4], plain[t, 0], rtol=1e-6)


def test_what_follows_the_end_of_a_sequence_is_zero():
    xs = jnp.ones((2, 50, 2)).at[1, 3:].set(jnp.nan)
    found, _ = features(make_info(50), xs, jnp.array([50, 3]), noise=0.1, key=jax.random.key(0))
    assert np.isfinite(found).all()
    assert not np.asarray(found)[2:, 1].any()


def test_noise_is_added_in_training_alone():
    xs = jnp.zeros((4, 30, 2))
    quiet, _ = features(make_info(30), xs, noise=0.3)
    loud, _ = features(make_info(30), xs, noise=0.3, key=jax.random.key(0))
    assert not np.asarray(quiet).any()
    assert np.std(loud) == pytest.approx(0.3, rel=0.1)


def test_each_step_keeps_its_place_where_each_has_a_target():
    info = make_info(100, per_step=True)
    assert features(info, jnp.zeros((1, 100, 2)))[0].shape == (100, 1, num_features(info))

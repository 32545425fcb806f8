"""Arrays on the devices of one process or of many."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def place(tree: Any, sharding: jax.sharding.Sharding) -> Any:
    """Copies a pytree that every process holds alike, typed keys included, to devices of all processes."""
    if sharding.is_fully_addressable:
        return jax.device_put(tree, sharding)

    def place_leaf(leaf: Any) -> jax.Array:
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(place_leaf(jax.random.key_data(leaf)), impl=jax.random.key_impl(leaf))
        whole = np.asarray(leaf)
        return jax.make_array_from_callback(whole.shape, sharding, lambda index: whole[index])

    return jax.tree.map(place_leaf, tree)


def on_one_device(tree: Any) -> Any:
    """Returns this process's first local copy of each replicated array."""
    return jax.tree.map(lambda leaf: leaf.addressable_data(0), tree)

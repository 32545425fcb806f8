"""The platform that JAX computes on."""

import jax


def default_platform() -> str:
    """Returns JAX's default platform: cpu, cuda, rocm or tpu, the names of `lax.platform_dependent`."""
    backend = jax.default_backend()
    if backend != "gpu":
        return backend
    return "rocm" if "rocm" in jax.devices()[0].client.platform_version else "cuda"

"""Networks in files: `save` writes a cell or layer with its parameters, `load` reads both back.

The format is safetensors, which many tools read and which runs no code when it is opened. An array's name is its path
in the parameters joined by dots, such as `0.forward.w_x`; the metadata holds the configuration as JSON:

    {"network": {"class": "Stack", "layers": [...]}, "input_size": 28}

A class is found by its name among the dataclasses of this package, and a field by its name in the class.
"""

import dataclasses
import json
import os
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnn_jax.base import Cell, Layer, Params, check_instance, check_like, check_size

_KEY = "rnn_jax"  # of the metadata


def save(path: str | os.PathLike[str], net: Cell | Layer, params: Params) -> None:
    """Writes a network and its parameters to a file; a file of that name is replaced at once or not at all.

    >>> import jax, pathlib, tempfile, rnn_jax as rnn
    >>> net = rnn.stack(rnn.bidirectional(rnn.LSTM(8)), rnn.GRU(4))
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "net.safetensors"
    >>> rnn.save(path, net, net.init(jax.random.key(0), input_size=3))
    >>> again, params = rnn.load(path)
    >>> again == net
    True

    Args:
      path: the file's path, by custom with the suffix `.safetensors`.
      net: any cell or layer. The configuration of a class of your own is not written: `load` needs the network then.
      params: its parameters, a pytree of arrays.

    Raises:
      OSError: if the file cannot be written.
      ValueError: for parameters of another network.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save as to_bytes

    check_instance("save", net)
    config = {"network": _describe(net), "input_size": find_input_size(net, params)}
    arrays = {name: np.asarray(array) for name, array in name_arrays(params).items()}
    try:
        data = to_bytes(arrays, {_KEY: json.dumps(config)})
    except SafetensorError as error:
        raise ValueError(f"params cannot be written: {error}") from error
    _write_atomically(Path(path), data)


def load(path: str | os.PathLike[str], like: Cell | Layer | None = None) -> tuple[Any, Params]:
    """Reads a network and its parameters from a file of `save`.

    Args:
      path: the file's path.
      like: the network to load into, whose parameters must have the names and shapes of those in the file. Its
        configuration replaces the file's. None for the network in the file.

    Returns:
      (network, parameters). Parameters keep their dtypes, float64 only where JAX has it enabled.

    Raises:
      OSError: for a file that cannot be opened.
      ValueError: for a file that is damaged or not of `save`, a class of your own without `like`, or arrays that are
        missing, unexpected or of the wrong shape.
    """
    metadata, arrays = read_safetensors(path)
    if _KEY not in metadata:
        raise ValueError(f"{path} is a safetensors file, but not one of rnn_jax.save")
    try:
        net, input_size = _read_config(metadata[_KEY], like)
        needed = _params_like(net, input_size)
    except _OwnClass as error:
        raise ValueError(f"{path} has a class of your own, {error}: pass the network, load(path, like=net)") from error
    except Exception as error:  # A damaged configuration can hold anything, and make any class fail in any way.
        raise ValueError(f"{path} has a configuration that is damaged or of another version: {error!r}") from error
    named = name_arrays(needed)
    _check_arrays(path, net, arrays, named)
    return net, jax.tree.unflatten(jax.tree.structure(needed), [jnp.array(arrays[name]) for name in named])


def _read_config(config: str, like: Cell | Layer | None) -> tuple[Any, int]:
    """Returns the network of a file, or `like`, and its number of input features."""
    decoded = json.loads(config)
    check_size("input_size", decoded["input_size"])
    return _build(decoded["network"]) if like is None else like, decoded["input_size"]


def _check_arrays(path: Any, net: Any, arrays: Mapping[str, np.ndarray], needed: Mapping[str, Any]) -> None:
    """Raises `ValueError` unless a file holds the arrays that a network needs."""
    faults = [f"{name} is missing" for name in needed if name not in arrays]
    faults += [f"{name} is unexpected" for name in arrays if name not in needed]
    if not faults:
        for name, like in needed.items():
            if arrays[name].shape != like.shape:
                faults.append(f"{name} has shape {arrays[name].shape}, but needs {like.shape}")
            elif _kind(arrays[name]) != _kind(like):
                faults.append(f"{name} has dtype {arrays[name].dtype}, but needs {like.dtype}")
    if faults:
        raise ValueError(f"{path} does not fit {net}: {', '.join(faults)}")


def read_safetensors(path: str | os.PathLike[str]) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    """Reads a safetensors file of any program: its metadata, and its arrays by name.

    Raises:
      OSError: for a file that cannot be opened.
      ValueError: for a file that is damaged or of another format.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with open(path, "rb"), safe_open(os.fspath(path), framework="np") as file:  # `open` has the better messages.
            return file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, TypeError, AttributeError) as error:  # The last two for dtypes without NumPy's like.
        raise ValueError(f"{path} is damaged or not a safetensors file: {error}") from error


def _write_atomically(path: Path, data: bytes) -> None:
    """Writes a file beside its place, and moves it there once it is safely on disk; a device is written to directly."""
    target = Path(os.path.realpath(path))  # Replace the link's target, not the link.
    beside = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        if target.exists() and not target.is_file():
            target.write_bytes(data)
            return
        with open(beside, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, target)
    except OSError as error:
        error.filename, error.filename2 = os.fspath(path), None
        raise
    finally:
        beside.unlink(missing_ok=True)


def name_arrays(arrays: Any, root: str = "") -> dict[str, Any]:
    """Returns the leaves of a pytree by their paths, joined by dots, after the name of the root if there is one.

    Raises:
      ValueError: if two leaves have one name.
    """
    named: dict[str, Any] = {}
    for keys, array in jax.tree.leaves_with_path(arrays):
        path = jax.tree_util.keystr(keys, simple=True, separator=".")
        name = ".".join(filter(None, (root, path))) or "params"
        if name in named:
            raise ValueError(f"params has two arrays at {name}: use keys without dots")
        named[name] = array
    return named


def _kind(array: Any) -> type:
    """Returns the abstract class of a dtype; bfloat16 is floating."""
    kinds = (jnp.floating, jnp.complexfloating, jnp.integer, jnp.bool_)
    return next((kind for kind in kinds if jnp.issubdtype(array.dtype, kind)), object)


def _params_like(net: Cell | Layer, input_size: int) -> Params:
    """Returns the shapes of a network's parameters."""
    return jax.eval_shape(lambda key: net.init(key, input_size), jax.eval_shape(lambda: jax.random.key(0)))


def find_input_size(net: Cell | Layer, params: Params) -> int:
    """Finds the number of input features with which `net.init` would draw such parameters.

    Raises:
      ValueError: if there is none.
    """
    shapes = [np.shape(array) for array in jax.tree.leaves(params)]
    sizes = [*dict.fromkeys(size for shape in shapes for size in shape)] or [1]
    faults: list[Exception] = []
    for size in sizes:
        try:
            check_like("params", params, _params_like(net, size), f"{net} for inputs of size {size}")
            return size
        except Exception as error:  # An `init` of the user's may fail in any way for a size that is only a guess.
            faults.append(error)
    raise ValueError(str(faults[0])) from faults[0]


def _classes() -> dict[str, type]:
    """Returns the dataclasses of this package that are cells or layers, by name."""
    modules = [module for name, module in list(sys.modules.items()) if name.startswith(f"{__package__}.")]
    return {
        name: value
        for module in modules
        for name, value in vars(module).items()
        if isinstance(value, type)
        and value.__module__ == module.__name__
        and dataclasses.is_dataclass(value)
        and hasattr(value, "init")
    }


def _describe(value: Any) -> Any:
    """Returns a value of a configuration as JSON has it; of other values, the name of the class."""
    if isinstance(value, tuple):
        return [_describe(item) for item in value]
    if isinstance(value, np.generic | jax.Array) and value.ndim == 0:
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    kind: Any = type(value)
    if _classes().get(kind.__name__) is not kind:
        return {"own": kind.__qualname__}
    return {"class": kind.__name__} | {
        field.name: _describe(getattr(value, field.name)) for field in dataclasses.fields(kind) if field.init
    }


class _OwnClass(Exception):
    """Raised for a description of a class that is not of this package, with its name."""


def _build(description: Any) -> Any:
    """Inverts `_describe`."""
    if isinstance(description, list):
        return tuple(_build(item) for item in description)
    if not isinstance(description, dict):
        return description
    if "class" not in description:
        raise _OwnClass(description["own"])
    fields = {name: _build(value) for name, value in description.items() if name != "class"}
    return _classes()[description["class"]](**fields)

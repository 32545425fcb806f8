"""Downloads a data set from its publisher, entirely or not at all."""

import os
import queue
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

from rnn_jax.data.dataset import DataError, DownloadError
from rnn_jax.data.mnist.archives import PUBLICATIONS
from rnn_jax.data.mnist.family import FILES


def download(name: str, data_dir: Path, *, notify: Callable[[str], None], url: str | None = None) -> Path:
    """Downloads a data set and prepares it under `data_dir`, or leaves everything unchanged.

    All work is done in a temporary folder beside the destination, so the destination appears complete. The
    downloaded archives are removed with the temporary folder.

    Args:
      name: a key of `PUBLICATIONS`.
      data_dir: the folder of data sets, an absolute path; created if it does not exist.
      notify: is called with the size, the source and the destination before the download starts.
      url: the folder to download from, ending in a slash; None is the publisher's.

    Returns:
      The prepared folder, for `rnn_jax.data.mnist.prepared.read_prepared`.

    Raises:
      DownloadError: if the publisher cannot be reached, or sends something else.
      DataError: if `data_dir` cannot be written to.
    """
    url = url or PUBLICATIONS[name].url
    existing = next(folder for folder in (data_dir, *data_dir.parents) if folder.exists())
    try:
        with tempfile.TemporaryDirectory(prefix=".rnn_jax-", dir=existing) as workspace:
            _probe(url + FILES[0])
            size = sum(archive.size for archive in PUBLICATIONS[name].archives)
            notify(f"Downloading {name} ({size / 1e6:.1f} MB) from {url} to {data_dir}")
            # Imported here because it imports tensorflow-datasets, which takes a second.
            from rnn_jax.data.mnist.builder import prepare

            prepared = prepare(name, Path(workspace), url)
            return _move(prepared, data_dir / prepared.relative_to(workspace))
    except OSError as error:
        raise DataError(
            f"cannot write {name} to {data_dir}: {error.strerror or error}; choose another data_dir"
        ) from error


def _move(prepared: Path, destination: Path) -> Path:
    destination.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.rename(prepared, destination)
    except OSError:
        # Another process may have prepared the same data in the meantime.
        if not destination.exists():
            raise
    return destination


def _probe(url: str, *, seconds: float = 8.0) -> None:
    """Raises `DownloadError` unless the server offers the file within `seconds`.

    Without a network, tensorflow-datasets would retry for minutes: ten times, with growing pauses.
    """
    import requests

    outcome: queue.SimpleQueue[requests.RequestException | None] = queue.SimpleQueue()

    def ask() -> None:
        try:
            with requests.get(url, stream=True, timeout=seconds / 2) as response:
                response.raise_for_status()
            outcome.put(None)
        except requests.RequestException as error:
            outcome.put(error)

    # In a thread, because `timeout` excludes the resolution of the name and starts anew for each address of a
    # server. A daemon thread does not delay the end of the program.
    threading.Thread(target=ask, daemon=True).start()
    try:
        error = outcome.get(timeout=seconds)
    except queue.Empty:
        raise DownloadError(f"{url} does not answer within {seconds:g} seconds") from None
    if error:
        raise DownloadError(f"{url} cannot be reached: {_root_cause(error)}") from error


def _root_cause(error: BaseException) -> BaseException:
    """Returns the innermost exception, whose message is the shortest."""
    while inner := error.__cause__ or error.__context__:
        error = inner
    return error

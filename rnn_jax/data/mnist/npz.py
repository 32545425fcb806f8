"""NumPy's .npz archives: Keras's `mnist.npz`, and a second form in which KMNIST is published."""

from pathlib import Path

import numpy as np

from rnn_jax.data.dataset import DataError


def read_npz(path: Path, names: tuple[str, ...]) -> list[np.ndarray]:
    """Reads the named arrays of an archive.

    Raises:
      DataError: if the archive is damaged or lacks one of them.
      OSError: if the file cannot be read.
    """
    with path.open("rb") as file:
        try:
            with np.lib.npyio.NpzFile(file, allow_pickle=False) as archive:
                return [archive[name] for name in names]
        # zipfile, zlib and NumPy raise errors of many classes for a damaged archive.
        except Exception as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise DataError(f"{path} is not a sound .npz archive of {', '.join(names)}: {reason}") from error

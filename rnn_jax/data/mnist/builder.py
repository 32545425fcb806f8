"""A builder of MNIST and its siblings for tensorflow-datasets (tfds).

tfds has builders of its own for these data sets, but they need TensorFlow; this one does not. Importing this module
imports tfds, which takes a second.
"""

import contextlib
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import requests
import tensorflow_datasets as tfds
from tensorflow_datasets.core.download.checksums import UrlInfo
from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError
from tensorflow_datasets.core.units import Size

from rnn_jax.data.dataset import DownloadError
from rnn_jax.data.mnist.archives import PUBLICATIONS
from rnn_jax.data.mnist.family import FILES
from rnn_jax.data.mnist.idx import read_idx


class MnistFamily(tfds.core.GeneratorBasedBuilder):
    """MNIST and its siblings, in their published order, one configuration each.

    They are prepared in `<data_dir>/mnist_family/<name>/<version>`, apart from the folders of tfds's own builders such
    as `<data_dir>/mnist`.
    """

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS: ClassVar = [tfds.core.BuilderConfig(name=name) for name in PUBLICATIONS]

    def __init__(self, *, config: str, url: str | None = None, **kwargs: Any):
        """Makes the builder.

        Args:
          config: the name of the data set, a key of `PUBLICATIONS`.
          url: the folder to download the archives from, ending in a slash; None is the publisher's. The archives are
            checked against the published digests in either case.
          **kwargs: `data_dir` and `version`, as for every tfds builder.
        """
        super().__init__(config=config, **kwargs)
        self._publication = PUBLICATIONS[config]
        self._url = url or self._publication.url

    @property
    def url_infos(self) -> dict[str, UrlInfo]:
        """The size and checksum of each download, which tfds verifies."""
        return {
            self._url + file: UrlInfo(size=Size(archive.size), checksum=archive.sha256, filename=file)
            for file, archive in zip(FILES, self._publication.archives, strict=True)
        }

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="The published images and labels, unchanged.",
            features=tfds.features.FeaturesDict(
                {
                    # Encoded as bytes: the default encodes every pixel as an integer, which is slow to parse.
                    "image": tfds.features.Tensor(
                        shape=(28, 28), dtype=np.uint8, encoding=tfds.features.Encoding.BYTES
                    ),
                    "label": tfds.features.ClassLabel(num_classes=10),
                }
            ),
            supervised_keys=("image", "label"),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        # One after another, so that no download is still being written when another fails.
        paths = [Path(dl_manager.download(self._url + file)) for file in FILES]
        return {
            "train": self._generate_examples(paths[0], paths[1]),
            "test": self._generate_examples(paths[2], paths[3]),
        }

    def _generate_examples(self, images: Path, labels: Path) -> Iterator[tuple[int, dict[str, Any]]]:
        pairs = zip(read_idx(images), read_idx(labels), strict=True)
        for index, (image, label) in enumerate(pairs):
            yield index, {"image": image, "label": int(label)}


def prepare(name: str, data_dir: Path, url: str) -> Path:
    """Downloads, verifies and prepares a data set, with progress bars if stderr is a terminal.

    Args:
      name: a key of `PUBLICATIONS`.
      data_dir: the folder to prepare in; the archives stay in `data_dir/downloads`.
      url: the folder to download the archives from, ending in a slash.

    Returns:
      The prepared folder, `data_dir/mnist_family/<name>/<version>`.

    Raises:
      DownloadError: if the archives cannot be downloaded, or are not the published ones.
      OSError: if `data_dir` cannot be written to.
    """
    builder = MnistFamily(data_dir=data_dir, config=name, url=url)
    config = tfds.download.DownloadConfig(try_download_gcs=False, force_checksums_validation=True)
    try:
        # tfds prints advice for interactive use, and its progress bars need a terminal.
        progress = sys.stderr if sys.stderr.isatty() else io.StringIO()
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(progress):
            builder.download_and_prepare(file_format="array_record", download_config=config)
    except NonMatchingChecksumError as error:
        raise DownloadError(f"what {url} sends is not {name}: wrong checksum") from error
    except (requests.RequestException, tfds.download.DownloadError) as error:
        raise DownloadError(f"the download from {url} broke off: {error}") from error
    return Path(builder.data_dir)

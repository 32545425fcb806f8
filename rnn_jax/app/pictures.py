"""Saves the pictures of a run, drawn the same way on every machine."""

import io
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

from rnn_jax.app.files import write_bytes
from rnn_jax.app.folder import RunFolder

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PICTURE_MODULES = ("matplotlib.backends.backend_agg", "matplotlib.figure", "matplotlib.ticker")  # imported on demand


def save_picture(run: RunFolder, name: str, draw: Callable[[], "Figure"], warn: Callable[[str], None]) -> None:
    """Saves a picture in a run's folder, drawn with matplotlib's own defaults and without a display.

    The environment and the user's matplotlibrc have no effect. Pictures are optional: a failure is a warning.

    Args:
      run: the run's folder.
      name: the file name, without its suffix.
      draw: makes the figure.
      warn: called with one line if that fails.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import matplotlib
            from matplotlib.backends.backend_agg import FigureCanvasAgg

            with matplotlib.rc_context():
                matplotlib.rcdefaults()
                figure, file = draw(), io.BytesIO()
                FigureCanvasAgg(figure)
                figure.savefig(file, format="png", dpi=150)
        write_bytes(run.path / f"{name}.png", file.getvalue())
    except Exception as error:
        warn(f"{name}.png is not drawn: {' '.join(str(error).split())[:200] or type(error).__name__}")

"""Windows of streams of tokens."""

import numpy as np

from rnn_jax.data.examples import Examples


def make_windows(tokens: np.ndarray, streams: int, window: int) -> Examples:
    """Cuts a text into streams of equal length, and these into windows that continue each other.

    Window w of stream b holds the tokens from (b n + w) W on, where each of the streams has n windows. The remainder of
    the text, less than a window for each stream, is left out.

    >>> make_windows(np.arange(10), streams=2, window=2).inputs.tolist()
    [[0, 1, 2], [2, 3, 4], [4, 5, 6], [6, 7, 8]]

    Args:
      tokens: [M].
      streams: B, the rows of a batch.
      window: W, the tokens that each window predicts.

    Returns:
      Inputs [B n, W + 1], each window with the token before it, and as targets [B n, W] all but the first of these; the
      windows of the first stream come first, and `starts` marks the first window of each stream.
    """
    each = (len(tokens) - 1) // (streams * window)
    count = streams * each
    inputs = np.lib.stride_tricks.sliding_window_view(tokens, window + 1)[: count * window : window]
    return Examples(inputs, inputs[:, 1:], starts=np.arange(count) % each == 0)

"""Windows of time series: the known steps, and the steps after them to forecast."""

import numpy as np

from rnn_jax.data.dataset import DataError, Dataset
from rnn_jax.data.examples import Examples
from rnn_jax.data.series.files import Notify
from rnn_jax.data.series.info import SeriesInfo, prepare
from rnn_jax.data.series.scaling import Scaling, scale
from rnn_jax.data.series.sequences import Sequences, plural
from rnn_jax.data.series.split import TooShort, cut_in_time, window_starts
from rnn_jax.data.series.times import season_of_times, step_of_times, time_text


def load_forecast(
    name: str,
    series: Sequences,
    tested: Sequences | None,
    missing: str,
    horizon: int | None,
    window: int | None,
    season: int | None,
    notify: Notify,
) -> Dataset:
    """Cuts series into windows, each with the steps after it as its target; the parts follow each other in time."""
    shortest = int(series.lengths.min())
    if season is None:
        times = None if series.times is None else series.times[: series.lengths[0]]
        if times is not None and len(times) > 1 and step_of_times(times)[1] is None:
            notify(f"{series.source}: the times are not evenly spaced, so no season is found; season sets one")
        season = 1 if times is None else season_of_times(times)
        longest = min(window or shortest, shortest // 3, shortest - 4 * (horizon or 1))
        season = season if season <= longest else 1
    horizon = horizon or (season if season > 1 and 5 * season <= shortest else max(1, min(12, shortest // 12)))
    if window is None:
        window = max(season, min(2 * max(season, horizon), shortest - 5 * horizon))
    if season > window:
        raise DataError(f"{series.source}: a window of {window} steps is shorter than a season of {season}: widen it")
    try:
        cuts = [cut_in_time(int(length), window, horizon, tested is None) for length in series.lengths]
    except TooShort as error:
        raise DataError(f"{series.source}: {error}: choose a shorter horizon, window or season") from error
    first = select_steps(series, [(0, validation) for validation, _ in cuts])
    others = [series] if tested is None else [series, tested]
    (_, whole, *rest), info = prepare(name, str(series.source), "", [first, *others], missing)
    d = info.form.channels.index(info.form.target)
    goal = Scaling((info.scaling.mean[d],), (info.scaling.deviation[d],))
    if not goal.deviation[0]:
        raise DataError(f"{series.source}: {info.form.target!r} is constant in the training part: nothing to forecast")
    errors = [np.abs(part[season:] - part[:-season]) for part in np.split(first.values[:, d], first.starts[1:])]
    errors = np.concatenate(errors)
    errors = errors[~np.isnan(errors)]  # A filled value is no error of the season before.
    info = info._replace(
        summary=_forecast_summary(series, cuts, window, horizon, season),
        goal=goal,
        steps=window,
        horizon=horizon,
        season=season,
        naive_error=float(errors.mean()) if errors.any() else goal.deviation[0],
    )
    bounds = [
        [(0, validation) for validation, _ in cuts],
        list(cuts),
        [(test, int(length)) for (_, test), length in zip(cuts, series.lengths, strict=True)],
    ]
    known = [~np.isnan(part.values[:, d]) for part in others]
    parts = [make_windows(whole, info, part, known[0]) for part in bounds[: 3 - len(rest)]]
    for later in rest:
        info = info._replace(source=f"{series.source}, tested on {later.source}")
        parts.append(make_windows(later, info, [(0, int(length)) for length in later.lengths], known[1]))
    train, validation, test = parts
    return Dataset(info, train, validation, test)


def _forecast_summary(series: Sequences, cuts: list[tuple[int, int]], window: int, horizon: int, season: int) -> str:
    """Describes the steps of each part, the windows and the season."""
    validation, test, length = *cuts[0], int(series.lengths[0])
    counts = f"{validation:,} training, {test - validation:,} validation and {length - test:,} test steps"
    if len(cuts) > 1:
        counts = f"{len(cuts)} series, of the first {counts}"
    span = ""
    if series.times is not None:
        span = f" from {time_text(series.times[0])} to {time_text(series.times[length - 1])}"
    seasonal = f", season {season}" if season > 1 else ""
    return (
        f"{counts} of {series.form.target}{span}, {plural(len(series.form.channels), 'channel')}, window {window}, "
        f"horizon {horizon}{seasonal}"
    )


def select_steps(sequences: Sequences, bounds: list[tuple[int, int]]) -> Sequences:
    """Cuts each sequence to the steps from the first to before the second of its bounds."""
    steps = np.concatenate(
        [np.arange(start + a, start + b) for start, (a, b) in zip(sequences.starts, bounds, strict=True)]
    )
    return sequences._replace(
        values=sequences.values[steps],
        lengths=np.array([b - a for a, b in bounds]),
        times=None if sequences.times is None else sequences.times[steps],
        lines=sequences.lines[steps] if len(sequences.lines) == len(sequences.values) else sequences.lines,
    )


def make_windows(
    series: Sequences, info: SeriesInfo, bounds: list[tuple[int, int]], known: np.ndarray | None = None
) -> Examples:
    """Cuts windows out of series without missing values: inputs [N, T, D] and targets [N, horizon], both scaled.

    Args:
      series: the series.
      info: the facts about the data, with the window, the horizon and the scaling.
      bounds: for each series, the first step that may be a target, and the step after the last.
      known: bool [S], False where the target was missing before it was filled. Windows with such targets are left
        out. None if all are known.

    Raises:
      DataError: if there is no window.
    """
    known = np.ones(len(series.values), bool) if known is None else known
    d, W, H = info.form.channels.index(info.form.target), info.steps, info.horizon
    inputs, targets = [], []
    for part, start, (first, end) in zip(
        np.split(series.values, series.starts[1:]), series.starts, bounds, strict=True
    ):
        values = scale(info.scaling, part)
        for w in window_starts(first, end, W, H):
            ahead = slice(w + W, w + W + H)
            if known[start:][ahead].all():
                inputs.append(values[w : w + W])
                targets.append(values[ahead, d])
    if not inputs:
        gaps = "" if known.all() else f", too few without missing values of {info.form.target}"
        raise DataError(f"{series.source} is too short for a window of {W} and a horizon of {H} steps{gaps}")
    return Examples(np.stack(inputs), np.stack(targets))

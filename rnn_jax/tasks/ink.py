"""Finds the ink of one character in a grey picture, whatever its light, its paper and what else is on it.

Letters: H rows and W columns of pixels in a picture. `ink` is 0 on paper and 1 in a stroke.
"""

from typing import Any, Literal

import numpy as np

LOW = 64  # A picture with no longer side is too coarse for noise and ruled lines.
FAINT = 0.03  # Ink differs by at least this from its paper, in fractions of white.
FOUR = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]])  # the neighbours that connect pixels of a part
EIGHT = np.ones((3, 3))


def box_of(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Returns (top, left, bottom, right) of the smallest box around a mask."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def _window(shape: tuple[int, ...], part: float) -> int:
    return max(3, int(part * max(shape)) | 1)


def _depth(grey: np.ndarray, window: int) -> np.ndarray:
    """Returns how much darker each pixel is than a picture without dark structures narrower than `window`."""
    from scipy import ndimage

    # Outside of the picture there is nothing: each filter sees the pixels inside alone.
    brightest = ndimage.maximum_filter(grey, window, mode="constant", cval=-np.inf)
    return ndimage.minimum_filter(brightest, window, mode="constant", cval=np.inf) - grey


def _light(grey: np.ndarray) -> np.ndarray:
    """Fits a quadratic surface to most pixels: the light that falls on the paper."""
    y, x = (np.linspace(-1, 1, side) for side in grey.shape)
    y, x = np.broadcast_arrays(y[:, None], x)
    terms = np.stack([np.ones_like(x), x, y, x * y, x * x, y * y], -1)
    kept = np.ones(grey.shape, bool)
    for _ in range(4):
        light = terms @ np.linalg.lstsq(terms[kept], grey[kept], rcond=None)[0]
        off = np.abs(grey - light)
        kept = off <= max(2 * np.median(off), FAINT)
    return light


def survey(grey: np.ndarray, dark: bool | None) -> tuple[bool, float]:
    """Finds out on which side of its paper the ink is, and how wide its strokes may be.

    Paper surrounds the ink, and something else may surround a sheet of paper; where light and dark both reach the
    border, ink is the thinner of the two; where even that is open, as in a picture cut at the ink's edges, paper is in
    most corners.

    Returns:
      (True if the ink is darker, a width that no stroke has in parts of the picture's longest side).
    """
    from scipy import ndimage

    large = max(grey.shape) > LOW
    smooth = ndimage.gaussian_filter(grey, 1) if large else grey
    light = smooth > _threshold(smooth)
    even = smooth - _light(smooth)
    divided = (smooth, light), (even, even > _threshold(even))
    for _, bright in sorted(divided, key=lambda each: -_explained(*each)):
        for outside, is_bright in ((bright, True), (~bright, False)):
            if _border(outside).mean() <= 0.97 or dark not in (None, is_bright):
                continue
            kind = _kind(~outside)
            if dark is not None or kind == "ink":
                return is_bright, 1 / 2
            if kind == "sheet":
                dark = not is_bright
    if large:
        parts = (1 / 64, 1 / 32, 1 / 16, 1 / 8)
        signs = (1, -1) if dark is None else (1,) if dark else (-1,)
        scales = [[_depth(sign * smooth, _window(grey.shape, part)) for sign in signs] for part in parts]
        scales = [[depth - np.median(depth) for depth in depths] for depths in scales]
        threshold = max(np.percentile(depth, 99.9) for depth in scales[-1]) / 2
        for part, depths in zip(parts, scales, strict=True):
            masks = [depth > threshold for depth in depths]
            inner = [_inner_count(mask) for mask in masks]
            most = int(np.argmax(inner))
            others = sum(inner) - inner[most]
            if inner[most] > max(32, 2 * others, 0.5 * sum(map(np.count_nonzero, masks))):
                return signs[most] > 0, min(4 * part, 1 / 2)
    if dark is None:
        corners = np.mean(light[:: len(light) - 1 or 1, :: len(light[0]) - 1 or 1])
        # Ink that reaches opposite corners divides the paper.
        dark = bool(corners > 0.5 or (corners == 0.5 and _label(light, FOUR)[1] > _label(~light, FOUR)[1]))
    return dark, 1 / 2


def _kind(mask: np.ndarray) -> Literal["ink", "sheet", "other"]:
    """Tells strokes from a sheet of paper, written on or not: a large, thick and convex part with corners."""
    from scipy import ndimage
    from scipy.spatial import ConvexHull

    labels, _ = _label(mask)
    part = labels == np.argmax(np.bincount(labels.ravel())[1:]) + 1
    filled = np.asarray(ndimage.binary_fill_holes(part))
    area = np.count_nonzero(filled)
    top, left, bottom, right = box_of(part)
    thick = 0.4 * max(bottom - top, right - left)
    if area < 0.25 * mask.size or _widest(filled) < thick or np.count_nonzero(part) < area / 2:
        return "ink"
    # The area over the root of the moments is 12 for every parallelogram and 4 pi for every ellipse, such as a zero.
    moments = np.cov(np.nonzero(filled)) + np.eye(2) / 12  # a pixel has an extent
    edge = np.argwhere(np.logical_xor(filled, ndimage.binary_erosion(filled)))
    hull = ConvexHull(np.concatenate([edge + corner for corner in ((0, 0), (0, 1), (1, 0), (1, 1))]))
    convex = area / hull.volume
    if area < 12.25 * np.sqrt(np.linalg.det(moments)) and convex > 0.94:
        return "sheet"
    return "ink" if convex < 0.9 or _widest(part) < thick else "other"


def _widest(mask: np.ndarray) -> float:
    """Returns the diameter of the largest circle inside a mask."""
    from scipy import ndimage

    return 2 * float(np.max(np.asarray(ndimage.distance_transform_edt(np.pad(mask, 1)))))


def _border(image: np.ndarray) -> np.ndarray:
    return np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])


def _inner_count(mask: np.ndarray) -> int:
    """Counts the pixels in those parts of a mask that do not touch the picture's border."""
    labels, _ = _label(mask)
    return int(np.count_nonzero(mask & ~np.isin(labels, _border(labels))))


def _label(mask: np.ndarray, neighbours: np.ndarray = EIGHT) -> tuple[np.ndarray, int]:
    """Numbers the connected parts of a mask from 1: (the number at each pixel, 0 outside; the number of parts)."""
    from scipy import ndimage

    found: Any = ndimage.label(mask, neighbours)
    return found


def _threshold(values: np.ndarray) -> float:
    """Returns Otsu's threshold: it divides values into two classes whose means are farthest apart."""
    counts, edges = np.histogram(values, 128)
    middles = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)[:-1]
    above = values.size - below
    sums = np.cumsum(counts * middles)
    means = sums[:-1] / np.maximum(below, 1), (sums[-1] - sums[:-1]) / np.maximum(above, 1)
    between = below * above * (means[1] - means[0]) ** 2
    best = np.flatnonzero(between >= between.max() * (1 - 1e-9))
    return float(edges[1:-1][best].mean())


def _explained(values: np.ndarray, mask: np.ndarray) -> float:
    """Returns the part of the variance that lies between the values within a mask and those outside."""
    parts = [part for part in (values[mask], values[~mask]) if part.size]
    return 1 - sum(part.var() * part.size for part in parts) / max(values.var() * values.size, 1e-12)


def find_ink(grey: np.ndarray, window: float) -> np.ndarray | None:
    """Returns the ink [H, W] of one dark character with strokes narrower than `window`, or None if there is none."""
    from scipy import ndimage

    if max(grey.shape) > LOW:
        grey = ndimage.gaussian_filter(grey, 0.7)
        if window < 1 / 2:
            grey = grey - _light(grey)
    depth = _depth(grey, _window(grey.shape, window))
    if max(grey.shape) > LOW:
        depth = _without_lines(_without_lines(depth).T).T
    threshold = _threshold(depth)
    paper = depth[depth <= threshold]
    floor = np.median(paper)
    noise = 1.48 * np.median(np.abs(paper - floor))
    threshold = max(threshold, floor + 4 * noise)
    chosen = _character(depth, depth > threshold)
    if chosen is None:
        return None
    full = np.percentile(depth[chosen], 75)
    if full - floor < FAINT:
        return None
    around = ndimage.binary_dilation(chosen, np.ones((3, 3)), iterations=max(1, max(grey.shape) // 100))
    low = floor + 2 * noise
    return np.where(around, ((depth - low) / max(full - low, 1e-3)).clip(0, 1), 0)


def _character(depth: np.ndarray, mask: np.ndarray) -> np.ndarray | None:
    """Returns the connected parts of a mask that make up one character: the main part, and what lies near it."""
    from scipy import ndimage

    labels, count = _label(mask)
    if not count:
        return None
    parts = ndimage.find_objects(labels)
    weights = ndimage.sum_labels(depth, labels, np.arange(1, count + 1))
    edges = np.array([[s.start for s in part] + [s.stop for s in part] for part in parts])
    longest = (edges[:, 2:] - edges[:, :2]).max(1)
    touches = (edges[:, :2] == 0).any(1) | (edges[:, 2:] == depth.shape).any(1)
    inner = ~touches & (longest > 0.12 * max(depth.shape)) & (weights > 0.003 * weights.max())
    for i in np.flatnonzero(inner):  # a frame is around the character
        inside = (edges[:, :2] > edges[i, :2]).all(1) & (edges[:, 2:] < edges[i, 2:]).all(1)
        inner[i] = not (inside & inner & (weights > 0.2 * weights[i])).any()
    main = int(np.argmax(np.where(inner, weights, 0) if inner.any() else weights))
    gaps = np.maximum(edges[:, :2] - edges[main, 2:], edges[main, :2] - edges[:, 2:]).max(1)
    around = (edges[:, :2] < edges[main, :2]).all(1) & (edges[:, 2:] > edges[main, 2:]).all(1)
    near = (gaps < 0.3 * longest[main]) & (weights > 0.02 * weights[main]) & (touches <= touches[main]) & ~around
    return np.isin(labels, np.flatnonzero(near) + 1)


def _without_lines(depth: np.ndarray) -> np.ndarray:
    """Subtracts thin lines that cross the picture from left to right, level or tilted by up to 5 degrees."""
    from scipy import ndimage

    H, W = depth.shape
    rows, columns = np.arange(H)[:, None], np.arange(W) - W // 2
    some = np.arange(0, W, max(1, W // 64))
    best = -1.0, 0.0, np.zeros(H)
    for slope in np.linspace(-0.09, 0.09, 37):
        shifted = rows + np.rint(slope * columns[some]).astype(int)
        # Lines are the depth that a row has nearly everywhere: strokes cover less of it.
        common = np.partition(depth[shifted.clip(0, H - 1), some], len(some) // 5, axis=1)[:, len(some) // 5]
        lines = common - ndimage.grey_opening(common, _window(depth.shape, 0.04))
        score = np.square(lines).sum()
        if score > best[0]:
            best = score, slope, lines
    _, slope, lines = best
    return depth - lines[(rows - np.rint(slope * columns).astype(int)).clip(0, H - 1)]

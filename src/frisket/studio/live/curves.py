"""Curves of a run: numbers joined into as many buckets as a picture is wide, nothing hidden."""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from frisket.studio.live.tail import MetricsColumns

Axis = Literal["step", "epoch", "minutes"]
CurveValues = NDArray[np.float64]


def measure_axis(tail: MetricsColumns, axis: Axis, steps_an_epoch: float | None) -> CurveValues:
    """Where each line stands on the axis. ValueError for epochs of a run that does not say them."""
    if axis == "minutes":
        return np.array(tail.seconds, dtype=np.float64) / 60
    steps = np.array(tail.steps, dtype=np.float64)
    if axis == "step":
        return steps
    if not steps_an_epoch:
        raise ValueError(
            "this run does not say how long its epochs are (it was trained before 0.16); take x ="
            " step or minutes"
        )
    return steps / steps_an_epoch


def reduce_curves(tail: MetricsColumns, places: CurveValues, buckets: int) -> dict[str, Any]:
    """Every series as means, minima and maxima in at most `buckets` parts of equal width of x.

    `x` is the mean place of the lines of each part that has any; a series has null where it has no
    finite number there. Where there are no more lines than buckets each line is its own.
    """
    if not len(places):
        return {"x": [], "series": {}}
    low, high = float(places.min()), float(places.max())
    if len(places) <= buckets:
        unique, index = np.unique(places, return_inverse=True)
        index = index.reshape(-1)
        x, count = unique, len(unique)
    else:
        width = (high - low) / buckets or 1.0
        bucket_numbers = np.minimum(((places - low) / width).astype(np.int64), buckets - 1)
        used, index = np.unique(bucket_numbers, return_inverse=True)
        index = index.reshape(-1)
        count = len(used)
        x = np.bincount(index, places, count) / np.bincount(index, minlength=count)
    series = {
        name: _join(index[np.array(column.rows)], np.array(column.values), count)
        for name, column in tail.series.items()
    }
    return {"x": x.tolist(), "series": series}


def _join(
    index: NDArray[np.int64], values: CurveValues, count: int
) -> dict[str, list[float | None]]:
    finite = np.isfinite(values)
    index, values = index[finite], values[finite]
    sizes = np.bincount(index, minlength=count)
    low, high = np.full(count, np.inf), np.full(count, -np.inf)
    np.minimum.at(low, index, values)
    np.maximum.at(high, index, values)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.bincount(index, values, count) / sizes
    return {"mean": _clean(mean), "min": _clean(low), "max": _clean(high)}


def _clean(values: CurveValues) -> list[float | None]:
    return [
        None if not is_finite else round(float(value), 9)
        for value, is_finite in zip(values, np.isfinite(values), strict=True)
    ]

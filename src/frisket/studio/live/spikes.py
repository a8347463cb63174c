"""Steps whose loss stands out, and whether a clip or only its noise level is the reason.

A loss depends on t more than on anything else, so a clip's error is held against what clips at
about its noise level had in this run: the median of the NEAR draws next to it in t.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frisket.studio.live.curves import CurveValues
from frisket.studio.live.tail import MetricsColumns

WINDOW = 50  # steps before one that it is held against
LEAST = 15  # of these there must be
SCATTER = 6.0  # times their usual scatter (1.4826 MAD) that a spike lies above their median
SHARE = 0.5  # and by how much of the median at least
SPACING = 3  # steps within which only the highest counts
NEAR = 31  # draws next to one in t that say what is usual there
OUTLYING = 3.0  # times the usual error at its noise level from which a clip stands out by itself
BLAMED = 1.5  # times the usual error at its noise level from which a clip is the reason


@dataclass(frozen=True, slots=True)
class UsualErrors:
    """What clips have at a noise level, by this run's own draws."""

    t: CurveValues  # rising
    errors: CurveValues  # the running median over NEAR draws

    @classmethod
    def measure(cls, tail: MetricsColumns) -> "UsualErrors":
        """From all draws of a run so far; empty where none has an error."""
        t, errors = np.array(tail.clips.t), np.array(tail.clips.errors)
        finite = np.isfinite(errors)
        order = np.argsort(t[finite], kind="stable")
        return cls(t[finite][order], _slide_median(errors[finite][order], NEAR))

    def interpolate(self, t: CurveValues) -> CurveValues:
        """The usual error at each t; NaN where nothing is known."""
        if not len(self.t):
            return np.full(len(t), np.nan)
        return np.interp(t, self.t, self.errors)


def _slide_median(values: CurveValues, width: int) -> CurveValues:
    """The median of the `width` values around each, fewer at the ends of a short row."""
    if len(values) <= width:
        return np.full(len(values), np.median(values) if len(values) else np.nan)
    half = width // 2
    windows = np.lib.stride_tricks.sliding_window_view(values, width)
    inner = np.median(windows, axis=1)
    return np.concatenate([np.repeat(inner[0], half), inner, np.repeat(inner[-1], half)])


def find_spikes(tail: MetricsColumns, name: str = "loss", most: int = 50) -> list[dict[str, Any]]:
    """Steps whose `name`, or one of whose clips, stands out; the farthest first, with their clips.

    A step is one where `name` lies above the median of the WINDOW steps before by SCATTER times
    their scatter and by SHARE of it, or where a clip has OUTLYING times the error that is usual at
    its noise level (and SCATTER times the usual scatter of that): a clip of little noise may be far
    off in a loss that is not. `why` is "clip" where a clip has at least BLAMED times the usual
    error, "noise" where all are as usual at their levels, "unknown" where the run kept no clips.
    """
    column = tail.series.get(name)
    if column is None:
        return []
    rows, values = np.array(column.rows), np.array(column.values)
    finite = np.isfinite(values)
    rows, values = rows[finite], values[finite]
    if len(values) <= LEAST:
        return []
    median, scatter = _measure_before(values)
    over = values - median
    stands = (over > SCATTER * scatter) & (over > SHARE * np.abs(median))
    stands[:LEAST] = False
    usual_errors = UsualErrors.measure(tail)
    places = set(_pick_highest(np.flatnonzero(stands), over))
    odd_rows = _find_odd_rows(tail, usual_errors)
    places |= {int(place) for place in np.flatnonzero(np.isin(rows, odd_rows)) if place >= LEAST}
    spikes = [
        _describe(tail, usual_errors, int(rows[place]), float(values[place]), float(median[place]))
        for place in places
    ]
    return sorted(spikes, key=_measure_reach, reverse=True)[:most]


def _measure_reach(spike: dict[str, Any]) -> float:
    """How far a step stands out: of its loss, or of its farthest clip."""
    times = [clip["times"] for clip in spike["clips"] if clip["times"] is not None]
    loss = spike["value"] / spike["median"] if spike["median"] > 0 else 0.0
    return float(max([loss, *times]))


def _find_odd_rows(tail: MetricsColumns, usual_errors: UsualErrors) -> NDArray[Any]:
    """The lines with a clip whose error is far from what is usual at its noise level."""
    errors, t = np.array(tail.clips.errors), np.array(tail.clips.t)
    with np.errstate(invalid="ignore", divide="ignore"):
        times = errors / usual_errors.interpolate(t)
        logs = np.log(times)
    finite = np.isfinite(logs)
    if finite.sum() <= NEAR:
        return np.array([], dtype=np.int64)
    scatter = 1.4826 * np.median(np.abs(logs[finite] - np.median(logs[finite])))
    is_odd = finite & (times >= OUTLYING) & (logs > SCATTER * scatter)
    rows: NDArray[np.int64] = np.array(tail.clips.rows, dtype=np.int64)
    far_rows: NDArray[np.int64] = rows[is_odd]
    return far_rows


def _measure_before(values: CurveValues) -> tuple[CurveValues, CurveValues]:
    """Median and scatter of the values before each; the first have what there is."""
    count = len(values)
    median, scatter = np.zeros(count), np.zeros(count)
    for place in range(1, min(WINDOW, count)):
        before = values[:place]
        median[place] = np.median(before)
        scatter[place] = np.median(np.abs(before - median[place]))
    if count > WINDOW:
        windows = np.lib.stride_tricks.sliding_window_view(values, WINDOW)[:-1]
        median[WINDOW:] = np.median(windows, axis=1)
        scatter[WINDOW:] = np.median(np.abs(windows - median[WINDOW:, None]), axis=1)
    return median, 1.4826 * scatter


def _pick_highest(places: NDArray[np.int64], over: CurveValues) -> list[int]:
    """Of neighbours the highest."""
    picked: list[int] = []
    for place in map(int, places):
        if picked and place - picked[-1] <= SPACING:
            if over[place] > over[picked[-1]]:
                picked[-1] = place
        else:
            picked.append(place)
    return picked


def _describe(
    tail: MetricsColumns, usual_errors: UsualErrors, row: int, value: float, median: float
) -> dict[str, Any]:
    clips = list_step_clips(tail, row, usual_errors)
    times = [clip["times"] for clip in clips if clip["times"] is not None]
    cause = "unknown" if not times else "clip" if max(times) >= BLAMED else "noise"
    return {
        "step": tail.steps[row],
        "value": value,
        "median": median,
        "why": cause,
        "clips": clips,
    }


def list_step_clips(
    tail: MetricsColumns, row: int, usual_errors: UsualErrors | None = None
) -> list[dict[str, Any]]:
    """The clips that one line drew, the one farthest from its usual error first."""
    usual_errors = usual_errors or UsualErrors.measure(tail)
    names, draws = list(tail.names), tail.clips
    places = np.flatnonzero(np.array(draws.rows) == row)
    t = np.array(draws.t)[places]
    clips = []
    for place, level, expected in zip(places, t, usual_errors.interpolate(t), strict=True):
        error = draws.errors[place]
        is_known = bool(np.isfinite(error) and np.isfinite(expected) and expected > 0)
        clips.append(
            {
                "name": names[draws.names[place]],
                "item": draws.items[place],
                "t": float(level),
                "error": float(error) if np.isfinite(error) else None,
                "usual": float(expected) if np.isfinite(expected) else None,
                "times": float(error / expected) if is_known else None,
            }
        )
    return sorted(clips, key=lambda clip: -(clip["times"] or 0.0))


def rank_clips(tail: MetricsColumns, most: int = 200) -> list[dict[str, Any]]:
    """Each clip with how many times the usual error at its noise levels it had, the most first.

    A clip that is hard at every noise level has a bad mask, a wrong caption, or is unlike the rest.
    """
    draws = tail.clips
    errors, t = np.array(draws.errors), np.array(draws.t)
    names, rows = np.array(draws.names, dtype=np.int64), np.array(draws.rows)
    with np.errstate(invalid="ignore", divide="ignore"):
        times = errors / UsualErrors.measure(tail).interpolate(t)
    finite = np.isfinite(times)
    ranked = []
    for name, index in tail.names.items():
        of_clip = finite & (names == index)
        if not of_clip.any():
            continue
        worst = np.flatnonzero(of_clip)[np.argmax(times[of_clip])]
        ranked.append(
            {
                "name": name,
                "item": draws.items[worst],
                "draws": int(of_clip.sum()),
                "times": float(np.median(times[of_clip])),
                "worst": float(times[worst]),
                "worst_step": tail.steps[rows[worst]],
            }
        )
    return sorted(ranked, key=lambda clip: -clip["times"])[:most]

"""How clips are cut from musubi-tuner's videos, as options of [[data]]."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from frisket.importers.options import OptionTable, drop_unset
from frisket.media.frames import BadMedia, probe


def windows_of(dataset: OptionTable, clips: Sequence[Path]) -> list[dict[str, Any]]:
    """How clips are cut from videos: a table for each of `target_frames`."""
    ways = ("head", "chunk", "slide", "uniform", "full")
    way = dataset.choice("frame_extraction", ways, "head")
    rate = _read_rate(dataset, clips)
    if way == "full":
        if "target_frames" in dataset:
            dataset.say(
                "target_frames", "not needed", "frame_extraction = full takes all of a clip"
            )
        return [{"extract": "full", "max_frames": dataset.whole("max_frames", 129, low=1)} | rate]
    lengths = _read_lengths(dataset)
    more = drop_unset(
        stride=dataset.whole("frame_stride", 1, low=1) if way == "slide" else None,
        samples=dataset.whole("frame_sample", 1, low=1) if way == "uniform" else None,
    )
    return [{"frames": frames, "extract": way} | more | rate for frames in lengths]


def _read_lengths(dataset: OptionTable) -> list[int]:
    """The lengths in `target_frames`, in frames, the shortest first; 1 where there are none."""
    counts = dataset.values.get("target_frames", [1])
    if not isinstance(counts, list) or not all(isinstance(n, int) and n > 0 for n in counts):
        raise dataset.bad("target_frames", "a list of whole numbers above 0 is needed")
    if len(counts) > 1 or max(counts, default=1) > 1:
        message = (
            "is data.frames, one [[data]] table each; a shorter video, left out there, is trained"
            " here at the length it has"
        )
        dataset.say("target_frames", "mapped", message)
    return sorted(set(counts)) or [1]


def _read_rate(dataset: OptionTable, clips: Sequence[Path]) -> dict[str, Any]:
    if "source_fps" not in dataset:
        return {"fps": "own"}
    rate = dataset.number("source_fps", low=1.0)
    first = next((clip for clip in clips if clip.is_file()), None)
    try:
        real = probe(first).fps if first else None
    except BadMedia:
        real = None
    if real and not math.isclose(real, rate, rel_tol=0.02):
        dataset.defect(
            "source_fps",
            f"is taken at its word, but {first} plays at {real:g}: here files tell their rate",
        )
    message = "files are resampled from their own rate to the variant's; data.fps names another"
    dataset.say("source_fps", "mapped", message)
    return {}

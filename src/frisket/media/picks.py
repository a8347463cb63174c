"""Which frames of a video are seen: rate conversion and the cutting of training clips."""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Literal, get_args

from frisket.grid import LatentGrid

ExtractionMode = Literal["head", "middle", "chunk", "uniform", "slide", "full"]


def resample(
    frames: int, source_fps: float | int | None, target_fps: float | int | None
) -> tuple[int, ...]:
    """Indices of `frames` source frames that play at `target_fps`.

    Output frame j is the latest source frame that began at or before j / target_fps, so lowering
    the rate drops frames and never repeats one. A source that is slower than the target, or whose
    rate is not known, keeps every frame and gains none.
    """
    if frames < 1:
        raise ValueError(f"{frames} frames cannot be resampled: there must be at least one")
    if not source_fps or not target_fps or source_fps <= target_fps:
        return tuple(range(frames))
    # Rates as fractions: floating point would put 30 -> 10 fps at frame 2.9999, that is frame 2.
    ratio = Fraction(source_fps).limit_denominator(1001) / Fraction(target_fps).limit_denominator(
        1001
    )
    if ratio <= 1:
        return tuple(range(frames))
    count = -(-frames // ratio)
    return tuple(int(j * ratio) for j in range(int(count)))


def _list_starts(
    length: int, want: int, mode: ExtractionMode, stride: int, samples: int
) -> Iterator[int]:
    last = length - want
    match mode:
        case "head" | "full":
            yield 0
        case "middle":
            yield last // 2
        case "chunk":
            yield from range(0, last + 1, want)
        case "slide":
            yield from range(0, last + 1, stride)
        case "uniform":
            # A short video has fewer different clips than `samples`; none is taken twice.
            yield from sorted({i * last // max(samples - 1, 1) for i in range(samples)})


def extract(
    frames: Sequence[int],
    want: int | Sequence[int],
    mode: ExtractionMode,
    *,
    stride: int = 1,
    samples: int = 1,
    max_frames: int = 129,
    grid: LatentGrid,
) -> list[tuple[int, ...]]:
    """Cut training clips out of one video; each is a tuple of ORIGINAL frame indices.

    `frames` are the indices left after `resample`. Of several lengths `want` it is the longest that
    the video has room for (diffusion-pipe's `frame_buckets`), the shortest where it has room for
    none. Modes, as musubi-tuner names them: `head` the first `want`; `chunk` one run of `want`
    after the other; `uniform` `samples` runs spread evenly from the first frame to the last (one
    sample is the head); `slide` a run every `stride` frames; `full` everything up to `max_frames`;
    besides, `middle` those about the middle (diffusion-pipe's `single_middle`). Lengths are cut to
    `1 + n * grid.temporal`. A video shorter than `want` gives its largest length the grid takes; an
    image gives `[(0,)]`.
    """
    if not frames:
        raise ValueError("there are no frames to take a clip from")
    if mode not in get_args(ExtractionMode):
        raise ValueError(
            f"no frame extraction {mode!r}; there are: {', '.join(get_args(ExtractionMode))}"
        )
    lengths = (want,) if isinstance(want, int) else tuple(want)
    if not lengths:
        raise ValueError("frame extraction: no length to cut is named")
    for name, value in {
        "want": min(lengths),
        "stride": stride,
        "samples": samples,
        "max_frames": max_frames,
    }.items():
        if value < 1:
            raise ValueError(f"frame extraction: {name} is {value}, it must be at least 1")
    room = max((count for count in lengths if count <= len(frames)), default=min(lengths))
    length = grid.fit_frames(min(len(frames), max_frames if mode == "full" else room))
    starts = _list_starts(len(frames), length, mode, stride, samples)
    return [tuple(frames[start : start + length]) for start in starts]

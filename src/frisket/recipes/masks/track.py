"""`frisket masks track`: the mask of one frame of a video carried to others."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from frisket.maskgen.base import BACKENDS, BackendUnusable, ModelSource, Tracker
from frisket.maskgen.files.by_hand import note_frames, read_frames_noted
from frisket.maskgen.files.drafts import DraftFolder
from frisket.maskgen.files.frame_codes import FrameCode
from frisket.maskgen.files.store import MaskStore, read_legend, read_png_legend
from frisket.maskgen.files.writing import UNTOLD
from frisket.maskgen.tracking.propagate import Carrier, FlowPropagator, ModelPropagator
from frisket.media.frames import Media, probe
from frisket.media.paths import plain
from frisket.media.seeking import open_reader
from frisket.progress import Progress
from frisket.recipes.masks.folder import BadMaskOption
from frisket.recipes.masks.footage import Footage, TrackRequest, track_footage, write_footage
from frisket.recipes.masks.make import place_of
from frisket.recipes.masks.request import device_of

FLOW = "flow"  # the way that needs no weights


@dataclass(frozen=True, slots=True)
class TrackedClip:
    """What became of a clip: its mask, the frames carried to, and how sure each is."""

    mask: Path
    tracked: Sequence[tuple[int, float]]
    wanted: int
    replaced: Path | None = None  # a mask of another form that stood there


def load_carrier(backend: str, model: str = "", device: str = "auto") -> Carrier:
    """Optical flow ("flow"), or a tracker of the shelf with its folder or hub id.

    UnknownPlugin, BackendUnusable and MaskWeightsNotFound name what is wrong.
    """
    if backend == FLOW:
        return FlowPropagator()
    found = BACKENDS.load(backend)
    if "tracker" not in found.roles:
        trackers = [name for name in BACKENDS.names() if "tracker" in BACKENDS.load(name).roles]
        raise BackendUnusable(
            f"{backend} follows no painted mask; take {FLOW}, or one of {', '.join(trackers)}"
        )
    tracker = found.load(ModelSource(path=model, device=device_of(device)))
    if not isinstance(tracker, Tracker):
        raise BackendUnusable(f"{backend} says it is a tracker and is none; take {FLOW}")
    return ModelPropagator(tracker)


def track_clip(
    clip: Path,
    start: int,
    end: int,
    *,
    clips: Path | None = None,
    masks: Path | None = None,
    keys: Sequence[int] = (),
    carrier: Carrier,
    progress: Progress = lambda *_: None,
) -> TrackedClip:
    """Carry the mask of frame `start` to the frames up to `end`, before or after it.

    Frames painted by hand (`keys`, and those the record names) stay as they are; between two of
    them what comes from both sides is blended. Everything outside the range stays. The mask is
    written whole, the record says which frames were carried. Raises BadMaskOption, BadMedia,
    BadLegend and what the media rooms raise, before anything is written.
    """
    media = probe(clip)
    if not media.video:
        raise BadMaskOption(f"{clip}: is one picture, there is no frame to carry its mask to")
    for option, frame in (("--from", start), ("--to", end), *(("--key", key) for key in keys)):
        if not 0 <= frame < media.frames:
            raise BadMaskOption(
                f"{option} {frame}: {clip} has the frames 0 to {media.frames - 1}"
            )
    if start == end:
        raise BadMaskOption(f"--to {end}: is the frame that the mask is taken from; give another")
    store, name = _find_place(clip, clips, masks)
    path = _find_mask(store, name, clip)
    code, legend = _choose_code(store, path)
    record = read_frames_noted(store.record(name))
    painted = {start, *keys, *(record.painted if record else ())}
    with tempfile.TemporaryDirectory(prefix="frisket-track-") as folder:
        drafts = DraftFolder(Path(folder))
        footage = _describe(clip, media, code, {"": path}, drafts)
        low, high = sorted((start, end))
        inside = sorted(key for key in painted if low <= key <= high)
        one = "forward" if end > start else "backward"
        request = TrackRequest(inside, low, high, "both" if len(inside) > 1 else one)

        def open_file(file: Path) -> object:
            return open_reader(file, code.reading)

        wanted = high - low + 1 - len(inside)
        tracked = track_footage(
            footage,
            request,
            carrier,
            open_file,  # type: ignore[arg-type]
            lambda frame, done, sure: progress("frames", done, wanted, {"sure": sure}),
        )
        target = store.labels(name, video=True)
        files = {frame: drafts.locate(frame) for frame, _ in tracked}
        write_footage(
            footage,
            {"": target},
            files,
            _spell(legend),
            lambda frame, done, _: progress("mask", done, footage.frames),
        )
    replaced = path if path != target else None
    if replaced is not None and replaced.is_file():
        replaced.unlink()
    known = dict(record.tracked) if record else {}
    carried = {frame: sure for frame, sure in (known | dict(tracked)).items() if frame not in painted}
    size = media.frames, media.height, media.width
    note_frames(
        store.record(name), clip, size, painted=painted, tracked=carried, legend=legend
    )
    return TrackedClip(target, tracked, wanted, replaced)

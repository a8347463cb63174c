"""`frisket masks track`: the mask of one frame of a video carried to others."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from frisket.maskgen.base import BACKENDS, BackendUnusable, ModelSource, Tracker
from frisket.maskgen.files.by_hand import note_frames, read_frames_noted
from frisket.maskgen.files.drafts import DraftFolder, TrackDirection
from frisket.maskgen.files.frame_codes import FrameCode
from frisket.maskgen.files.label_maps import read_legend, read_png_legend
from frisket.maskgen.files.places import MaskStore
from frisket.maskgen.files.writing import UNTOLD
from frisket.maskgen.tracking.propagate import (
    Carrier,
    FlowPropagator,
    ModelPropagator,
)
from frisket.media.frames import Media, probe
from frisket.media.paths import plain
from frisket.media.seeking import open_reader
from frisket.progress import Progress
from frisket.recipes.masks.folder import BadMaskOption
from frisket.recipes.masks.footage import (
    MaskFootage,
    TrackRequest,
    track_footage,
    write_footage,
    write_frame_files,
)
from frisket.recipes.masks.make import place_of
from frisket.recipes.masks.request import device_of

FLOW = "flow"  # the way that needs no weights


@dataclass(frozen=True, slots=True)
class TrackedClip:
    """What became of a clip: its mask, the frames carried to, and how sure each is."""

    mask: Path
    tracked: Sequence[tuple[int, float]]
    total: int
    replaced: Path | None = None  # a mask of another form that stood there


def load_carrier(backend: str, model: str = "", device: str = "auto") -> Carrier:
    """Optical flow ("flow"), or a tracker of the shelf with its folder or hub id.

    UnknownPlugin, BackendUnusable and MaskWeightsNotFound name what is wrong.
    """
    if backend == FLOW:
        return FlowPropagator()
    plugin = BACKENDS.load(backend)
    if "tracker" not in plugin.roles:
        trackers = [name for name in BACKENDS.names() if "tracker" in BACKENDS.load(name).roles]
        raise BackendUnusable(
            f"{backend} follows no painted mask; take {FLOW}, or one of {', '.join(trackers)}"
        )
    tracker = plugin.load(ModelSource(path=model, device=device_of(device)))
    if not isinstance(tracker, Tracker):
        raise BackendUnusable(f"{backend} says it is a tracker and is none; take {FLOW}")
    return ModelPropagator(tracker)


@dataclass(frozen=True, slots=True)
class TrackRange:
    """Frames to carry a mask over: from `start` to `end`, which may lie before it.

    `keys` are further frames that are right as they are.
    """

    start: int
    end: int
    keys: Sequence[int] = ()

    def check(self, clip: Path, frames: int) -> None:
        """BadMaskOption for a frame that the clip has not, and for an empty range."""
        numbers = [("--from", self.start), ("--to", self.end), *(("--key", at) for at in self.keys)]
        for option, frame in numbers:
            if not 0 <= frame < frames:
                raise BadMaskOption(f"{option} {frame}: {clip} has the frames 0 to {frames - 1}")
        if self.start == self.end:
            raise BadMaskOption(
                f"--to {self.end}: is the frame that the mask is taken from; give another"
            )

    def request(self, painted: set[int]) -> TrackRequest:
        """The frames between, and the keyframes among them."""
        low, high = sorted((self.start, self.end))
        inside = sorted(key for key in painted if low <= key <= high)
        direction: TrackDirection = "forward" if self.end > self.start else "backward"
        return TrackRequest(inside, low, high, "both" if len(inside) > 1 else direction)


def track_clip(
    clip: Path,
    span: TrackRange,
    carrier: Carrier,
    *,
    clips: Path | None = None,
    masks: Path | None = None,
    progress: Progress = lambda *_: None,
) -> TrackedClip:
    """Carry the mask of a frame over a range, and write the clip's mask whole.

    Frames painted by hand (`span.keys`, and those the record names) stay as they are; between two
    of them what comes from both sides is blended. All outside the range stays. The record says
    which frames were carried. Raises BadMaskOption, BadMedia, BadLegend and what the media rooms
    raise, before anything is written.
    """
    media = probe(clip)
    if not media.video:
        raise BadMaskOption(f"{clip}: is one picture, there is no frame to carry its mask to")
    span.check(clip, media.frames)
    store, name = _find_place(clip, clips, masks)
    path = _find_mask(store, name, clip)
    code, legend = choose_code(store, path)
    record = read_frames_noted(store.record(name))
    painted = {span.start, *span.keys, *(record.painted if record else ())}
    request = span.request(painted)
    with tempfile.TemporaryDirectory(prefix="frisket-track-") as folder:
        drafts = DraftFolder(Path(folder))
        footage = describe_footage(clip, media, code, {"": path}, drafts)
        total = request.last - request.first + 1 - len(request.keys)
        tracked = track_footage(
            footage,
            request,
            carrier,
            lambda file: open_reader(file, code.reading),
            lambda _, count, confidence: progress("frames", count, total, {"sure": confidence}),
        )
        target = path if path.is_dir() else store.labels(name, video=True)
        files = {frame: drafts.locate(frame) for frame, _ in tracked}
        if path.is_dir():
            write_frame_files(path, files)
        else:
            comment = json.dumps(dict(legend)) if legend else ""
            write_footage(
                footage,
                {"": target},
                files,
                comment,
                lambda _, count, __: progress("mask", count, media.frames, {}),
            )
    if path != target:
        path.unlink()
    carried = {**dict(record.tracked if record else ()), **dict(tracked)}
    note_frames(
        store.record(name),
        clip,
        (media.frames, media.height, media.width),
        painted=painted,
        tracked={
            frame: confidence for frame, confidence in carried.items() if frame not in painted
        },
        legend=legend,
    )
    return TrackedClip(target, tracked, total, path if path != target else None)


def describe_footage(
    clip: Path,
    media: Media,
    code: FrameCode,
    files: Mapping[str, Path],
    drafts: DraftFolder | None = None,
) -> MaskFootage:
    """The mask of a clip that was probed."""
    size = media.frames, media.height, media.width
    return MaskFootage(clip, *size, media.fps or UNTOLD, code, files, drafts)


def _find_place(clip: Path, clips: Path | None, masks: Path | None) -> tuple[MaskStore, str]:
    folder = clips or clip.parent
    if not clip.resolve().is_relative_to(folder.resolve()):
        raise BadMaskOption(f"--clips {folder}: {clip} does not lie in it")
    _, store = place_of(folder, masks)
    relative = clip.resolve().relative_to(folder.resolve())
    name = relative if clip.is_dir() else relative.with_suffix("")
    return store, plain(name.as_posix())


def _find_mask(store: MaskStore, name: str, clip: Path) -> Path:
    masks = list(store.present(name, clip).values())
    if len(masks) != 1:
        mask_count = "no mask" if not masks else f"{len(masks)} masks"
        raise BadMaskOption(
            f"{clip}: has {mask_count} in {store.folder}; paint one frame in the studio, make"
            " a mask (frisket masks), or say where it lies (--masks)"
        )
    return masks[0]


def choose_code(store: MaskStore, path: Path) -> tuple[FrameCode, dict[str, int]]:
    """How a mask's numbers are read: as labels where a legend is, else as one grey region."""
    legend = read_legend(store.legend)
    if not legend and path.suffix.lower() == ".png":
        legend = read_png_legend(path)
    if legend:
        return FrameCode("labels"), legend
    return FrameCode("soft", keys={"": 1}), {}

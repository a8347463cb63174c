"""The masks of one clip on their way to disk: label map, soft planes, the user's brush on top."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from itertools import repeat
from pathlib import Path
from types import TracebackType

import numpy as np
import torch

from frisket.maskgen.base import LabelMap, SoftMask
from frisket.maskgen.cleanup.clean import UNTOUCHED, compose, paint, soften
from frisket.maskgen.files import record, store
from frisket.maskgen.job import MaskJob, Task
from frisket.media.frames import BadMedia, Media, probe, stream, writing_labels
from frisket.media.paths import IMAGES, VIDEOS

UNTOLD = 25.0  # frames a second of a label video whose clip tells no rate


def brush_of(job: MaskJob, task: Task) -> Path | None:
    """The brush layer of a clip: a label image or video of its name in the brush folder."""
    if job.brush is None:
        return None
    paths = [job.brush / f"{task.name}{suffix}" for suffix in (*IMAGES, *VIDEOS)]
    return next((path for path in paths if path.is_file()), None)


class Writing:
    """Writes a clip's masks frame by frame; nothing stands under a final name before the end."""

    def __init__(self, job: MaskJob, task: Task, media: Media) -> None:
        """Name what is written; nothing is opened yet."""
        self.job, self.task, self.media = job, task, media
        self.labels = job.place.labels(task.name, video=media.video)
        self.soft = {
            name: job.place.soft(name, task.name, video=media.video)
            for name in (job.legend if job.soft else ())
        }
        self._stack = ExitStack()
        self._open: dict[Path, Callable[[LabelMap], None]] = {}
        self._pixels: dict[str, int] = {}
        self._frames = 0
        self._brush: Iterator[LabelMap | None] = repeat(None)
        # Labels as `compose` counts them to the indices of the legend.
        self._table = torch.tensor([0, *job.legend.values()], dtype=torch.uint8)

    def __enter__(self) -> "Writing":
        """Open what a video is written to, and the brush."""
        brush = brush_of(self.job, self.task)
        if brush is not None:
            self._brush = _read_strokes(brush, self.media, self.job.legend)
        if self.media.video:
            fps = self.media.fps or UNTOLD
            labels = store.open_label_video(self.labels, fps, self.job.legend)
            self._open[self.labels] = self._stack.enter_context(labels)
            for path in self.soft.values():
                self._open[path] = self._stack.enter_context(writing_labels(path, fps)).add
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Put the videos under their names, or leave nothing where something failed."""
        self._stack.__exit__(kind, error, trace)

    def add(self, planes: Mapping[str, SoftMask]) -> None:
        """One frame: regions to soft planes; those of the legend that are missing are empty."""
        job = self.job
        numbers = compose(planes, job.priority, regions=tuple(job.legend))
        labels = self._table[numbers.long()]
        brush = next(self._brush)
        if brush is not None:
            labels = paint(labels, brush, UNTOUCHED)
        for name, index in job.legend.items():
            self._pixels[name] = self._pixels.get(name, 0) + int((labels == index).sum())
        self._frames += 1
        if self.media.video:
            self._open[self.labels](labels)
        else:
            store.write_labels(self.labels, labels, job.legend)
        if self.soft:
            self._add_soft(soften(planes, job.priority), labels, brush)

    def _add_soft(
        self, planes: Mapping[str, SoftMask], labels: LabelMap, brush: LabelMap | None
    ) -> None:
        for name, path in self.soft.items():
            plane = planes.get(name, torch.zeros(labels.shape))
            if brush is not None:
                painted = (brush == self.job.legend[name]).float()
                plane = torch.where(brush == UNTOUCHED, plane, painted)
            if self.media.video:
                self._open[path](store.levels(plane))
            else:
                store.write_soft(path, plane)

    def measure_shares(self) -> dict[str, float]:
        """Share of the clip's pixels that each region of the label map has."""
        pixels = self._frames * self.media.height * self.media.width
        return {name: count / pixels for name, count in self._pixels.items()} if pixels else {}

    def keep(self) -> tuple[record.Stamp, ...]:
        """Stamps of what was written; what an earlier run left besides is removed."""
        paths = (self.labels, *self.soft.values())
        self._remove_old({self.job.place.below(path) for path in paths})
        return tuple(record.Stamp.of(path, self.job.place.below(path)) for path in paths)

    def drop(self) -> tuple[record.Stamp, ...]:
        """Remove what was written, and what an earlier run left: an empty mask teaches nothing."""
        for path in (self.labels, *self.soft.values()):
            path.unlink(missing_ok=True)
        self._remove_old(set())
        return ()

    def _remove_old(self, names: set[str]) -> None:
        old = record.load(self.job.place.record(self.task.name))
        for stamp in old.masks if old else ():
            if stamp.name not in names:
                (self.job.place.folder / stamp.name).unlink(missing_ok=True)


def _read_strokes(path: Path, clip: Media, legend: Mapping[str, int]) -> Iterator[LabelMap]:
    """A brush layer frame by frame; BadMedia where it does not fit its clip or the legend."""
    brush = probe(path)
    if (brush.height, brush.width) != (clip.height, clip.width) or (
        brush.video and brush.frames != clip.frames
    ):
        raise BadMedia(
            f"{path}: a brush of {brush.width} x {brush.height}, {brush.frames} frames, for a clip"
            f" of {clip.width} x {clip.height}, {clip.frames} frames; paint it on the clip's own"
            " size"
        )
    indices = {0, UNTOUCHED, *legend.values()}
    for labels in stream(path, "index"):
        strangers = set(np.unique(labels.numpy()).tolist()) - indices
        if strangers:
            raise BadMedia(
                f"{path}: paints the index {min(strangers)}, which is in no legend: {dict(legend)};"
                f" 0 erases, {UNTOUCHED} leaves as it is"
            )
        yield from repeat(labels.to(torch.uint8), 1 if brush.video else clip.frames)

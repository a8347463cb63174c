"""Clips to masks on disk: detect, choose, smooth, clean, compose, write, and say how sure it is."""

import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from frisket.maskgen.base import (
    BackendUnusable,
    Detections,
    Face,
    Instance,
    RgbPicture,
    SoftMask,
    VideoGrounder,
)
from frisket.maskgen.cleanup import confidence
from frisket.maskgen.cleanup.clean import combine, tidy
from frisket.maskgen.cleanup.instances import choose, choose_tracks
from frisket.maskgen.cleanup.stages import SegmentationPipeline, merge_masks, phrases_of, planes_of
from frisket.maskgen.files.recording import (
    Blanks,
    ClipCounts,
    ClipReport,
    record_failed,
    record_result,
)
from frisket.maskgen.files.writing import Writing
from frisket.maskgen.job import ClipResult, MaskJob, Motion, Task
from frisket.maskgen.pipeline import Models, PipelineParts, build_pipeline, find_front_role
from frisket.maskgen.tracking.carry import carry
from frisket.maskgen.tracking.temporal import has_pixels
from frisket.maskgen.tracking.temporal_smoothing import smooth_planes
from frisket.maskgen.tracking.tracker import Tracked, follow, link, track
from frisket.maskgen.vision.loading import run_halving
from frisket.maskgen.vision.locked import LockedPipeline, LockedTracker, LockedVideoGrounder
from frisket.media.frames import BadMedia, Media, probe, stream

STILL = Motion(smooth="none", gap=0)
FAULTS = (BadMedia, BackendUnusable, ValueError, OSError)  # of one clip: the others go on


@dataclass(frozen=True, slots=True)
class SegmentedFrame:
    """One frame as its sources see it: a table of planes each, and the scores of the first."""

    picture: RgbPicture
    planes: Sequence[Mapping[str, SoftMask]]
    scores: Mapping[str, float | None]
    unsure: str = ""
    stable: Mapping[str, confidence.Stability] = field(default_factory=dict)
    why: Mapping[str, str] = field(default_factory=dict)  # what speaks against a region


class MaskGenerator:
    """Makes the masks of a job's clips with models that are loaded once."""

    def __init__(self, job: MaskJob) -> None:
        """Nothing is loaded until a clip needs it."""
        self.job = job
        self.models = Models(job.weights, job.default, job.cuts)
        self._pipelines: dict[PipelineParts, SegmentationPipeline] = {}
        self._lock = threading.Lock()  # several threads read and write, one asks the models

    def close(self) -> None:
        """Let go of every model, on the device too."""
        self.models.close()

    def make(self, tasks: Sequence[Task]) -> Iterator[ClipResult]:
        """Masks for clips, stills in batches; one outcome a task, in an order of its own.

        A clip whose file, phrases or target fails is told as `failed`; the others go on. What is
        wrong with the models themselves is raised.
        """
        for parts in self.job.sources:
            self._get_pipeline(parts)
        stills: list[tuple[Task, Media]] = []
        for task in tasks:
            try:
                media = probe(task.clip)
            except FAULTS as error:
                yield record_failed(self.job, task, error)
                continue
            if media.video:
                yield self._make_clip(task, media)
            else:
                stills.append((task, media))
        yield from self._make_stills(stills)

    def _get_pipeline(self, parts: PipelineParts) -> SegmentationPipeline:
        with self._lock:
            if parts not in self._pipelines:
                pipeline = build_pipeline(parts, self.models, self.job.options)
                self._pipelines[parts] = LockedPipeline(pipeline, self._lock)
            return self._pipelines[parts]

    # Stills

    def _make_stills(self, stills: Sequence[tuple[Task, Media]]) -> Iterator[ClipResult]:
        began = time.perf_counter()
        read: list[tuple[Task, Media, RgbPicture]] = []
        for task, media in stills:
            try:
                read.append((task, media, next(stream(task.clip))))
            except FAULTS as error:
                yield record_failed(self.job, task, error)
        if not read:
            return
        try:
            answers = [self._detect_stills(parts, read) for parts in self.job.sources]
        except FAULTS as error:
            if len(read) == 1:
                yield record_failed(self.job, read[0][0], error)
                return
            for task, media, _ in read:  # one of them is at fault: each by itself
                yield from self._make_stills([(task, media)])
            return
        seconds = (time.perf_counter() - began) / len(read)
        for (task, media, picture), *detections in zip(read, *answers, strict=True):
            yield self._make_clip(task, media, picture, detections, seconds)

    def _detect_stills(
        self, parts: PipelineParts, read: Sequence[tuple[Task, Media, RgbPicture]]
    ) -> list[Detections]:
        pipeline = self._get_pipeline(parts)

        def run(batch: Sequence[tuple[Task, Media, RgbPicture]]) -> list[Detections]:
            return pipeline(
                [picture for *_, picture in batch], [task.prompts for task, *_ in batch]
            )

        return list(run_halving(run, read, self.job.batch))

    def _make_clip(
        self,
        task: Task,
        media: Media,
        picture: RgbPicture | None = None,
        detections: Sequence[Detections] = (),
        spent: float = 0.0,
    ) -> ClipResult:
        began = time.perf_counter() - spent
        try:
            if picture is None:
                return self._make_video(task, media, began)
            frame = self._segment_picture(task, picture, detections)
            return self._finish(task, media, [frame], [picture], began, frame.unsure)
        except FAULTS as error:
            return record_failed(self.job, task, error)

    def _segment_picture(
        self, task: Task, picture: RgbPicture, detections: Sequence[Detections]
    ) -> SegmentedFrame:
        selections = [self._choose(picture, answer) for answer in detections]
        size = picture.shape[0], picture.shape[1]
        stable: Mapping[str, confidence.Stability] = {}
        if self.job.stability:
            # Of all that the source sees: a point to choose by would have to be mirrored too.
            pipeline = self._get_pipeline(self.job.sources[0])
            stable = confidence.stability(pipeline, picture, task.prompts, detections[0])
        return self._build_frame(picture, selections, size, stable)

    def _build_frame(
        self,
        picture: RgbPicture,
        selections: Sequence[Detections],
        size: tuple[int, int],
        stable: Mapping[str, confidence.Stability],
    ) -> SegmentedFrame:
        scores: dict[str, float | None] = {}
        for instance in selections[0].instances:
            earlier = scores.get(instance.region)
            known_scores = [score for score in (earlier, instance.score) if score is not None]
            scores[instance.region] = max(known_scores) if known_scores else None
        doubts = [selection.unsure for selection in selections if selection.unsure]
        if self.job.everything_but and not any(selection.instances for selection in selections):
            doubts.append("nothing to leave out was found, so all of it is taken")
        doubt = "; ".join(dict.fromkeys(doubts))
        planes = [self._merge_planes(selection, size) for selection in selections]
        reasons = {
            instance.region: instance.why for instance in selections[0].instances if instance.why
        }
        return SegmentedFrame(picture, planes, scores, doubt, stable, reasons)

    def _merge_planes(self, selection: Detections, size: tuple[int, int]) -> dict[str, SoftMask]:
        job = self.job
        if not job.everything_but:
            return planes_of(selection, job.regions, *size)
        return {
            job.everything_but: 1
            - merge_masks([instance.mask for instance in selection.instances], *size)
        }

    def _choose(self, picture: RgbPicture, detections: Detections) -> Detections:
        how = self.job.choice
        if how.kind == "all":
            return detections
        size = picture.shape[0], picture.shape[1]
        return choose(detections, how, self._find_faces(picture), size)[0]

    def _find_faces(self, picture: RgbPicture) -> list[Face] | None:
        if self.job.choice.kind != "face":
            return None
        with self._lock:
            (faces,) = self.models.get(self.job.faces).faces([picture])
        return list(faces)

    # Videos

    def _make_video(self, task: Task, media: Media, began: float) -> ClipResult:
        size = media.height, media.width
        doubts: list[str] = []
        tracks = [self._choose_tracks(task, parts, size, doubts) for parts in self.job.sources]
        # Decoded anew for each reader, since they look ahead by different lengths.
        frames = (
            self._build_frame(
                picture, [Detections(tuple(instances)) for instances in by_source], size, {}
            )
            for picture, *by_source in zip(stream(task.clip), *tracks, strict=True)
        )
        doubt = "; ".join(dict.fromkeys(doubts))
        return self._finish(task, media, frames, stream(task.clip), began, doubt)

    def _choose_tracks(
        self, task: Task, parts: PipelineParts, size: tuple[int, int], doubts: list[str]
    ) -> Iterator[list[Instance]]:
        """The instances of each frame, those of tracks that are not chosen left out."""
        how = self.job.choice
        if how.kind == "all":
            return ([tracked.instance for tracked in tracks] for tracks in self._track(task, parts))
        interval = self.job.motion.tracking.every
        looked = (
            (
                tracks,
                self._find_faces(picture) if how.kind != "face" or at % interval == 0 else None,
            )
            for at, (picture, tracks) in enumerate(
                zip(stream(task.clip), self._track(task, parts), strict=True)
            )
        )
        selected = choose_tracks(looked, how, size)
        if selected.unsure:
            doubts.append(selected.unsure)
        return (
            [tracked.instance for tracked in tracks if tracked.number in selected.kept]
            for tracks in self._track(task, parts)
        )

    def _track(self, task: Task, parts: PipelineParts) -> Iterator[list[Tracked]]:
        pipeline, how = self._get_pipeline(parts), self.job.motion.tracking

        def find(picture: RgbPicture) -> Sequence[Instance]:
            return pipeline([picture], [task.prompts])[0].instances

        frames = stream(task.clip)
        if not parts.tracker and find_front_role(parts.front) == "drafter":
            return carry(frames, lambda picture: pipeline([picture], [task.prompts])[0], how)
        if not parts.tracker:
            return link(frames, find, how)
        with self._lock:
            tracker = self.models.get(parts.tracker)
        if isinstance(tracker, VideoGrounder):
            names, alone = phrases_of(task.prompts), LockedVideoGrounder(tracker, self._lock)
            return follow(frames, alone, list(names), regions=names, how=how)
        return track(frames, find, LockedTracker(tracker, self._lock), how)

    # Both

    def _finish(
        self,
        task: Task,
        media: Media,
        frames: Iterable[SegmentedFrame],
        pictures: Iterable[RgbPicture],
        began: float,
        doubt: str,
    ) -> ClipResult:
        """Clean, compose and write frame by frame; then the record."""
        job = self.job
        regions = (job.everything_but,) if job.everything_but else job.regions
        tallies = {name: ClipCounts() for name in regions}
        overall = confidence.RunningConfidence()
        by_frame: list[float] = []
        merged = self._merge_sources(frames, tallies, overall, by_frame, doubt)
        motion = job.motion if media.video else STILL
        blanks = Blanks()
        with Writing(job, task, media) as writing:
            for picture, planes in smooth_planes(merged, pictures, regions, motion):
                tidied = {n: tidy(it, job.get_cleaning(n), picture) for n, it in planes.items()}
                blanks.add(empty=not any(has_pixels(plane) for plane in tidied.values()))
                writing.add(tidied)
        if media.video and writing.measure_shares() and not doubt:
            doubt = blanks.doubt(motion.gap)
        spent = time.perf_counter() - began
        report = ClipReport(tallies, overall, doubt, spent, tuple(by_frame))
        return record_result(job, task, media, writing, report)

    def _merge_sources(
        self,
        frames: Iterable[SegmentedFrame],
        tallies: Mapping[str, ClipCounts],
        overall: confidence.RunningConfidence,
        by_frame: list[float],
        doubt: str,
    ) -> Iterator[dict[str, SoftMask]]:
        """One table of planes a frame, what speaks for each written down on the way."""
        cut = find_front_threshold(self.job)
        for frame in frames:
            first = dict(frame.planes[0])
            merged = first
            for other in frame.planes[1:]:
                merged = {n: combine(merged[n], other[n], self.job.how) for n in merged}
            evidence: dict[str, confidence.Evidence] = {}
            for name, plane in merged.items():
                if not has_pixels(plane):
                    continue
                score = frame.scores.get(name)
                evidence[name] = confidence.assess(
                    plane,
                    score=score,
                    threshold=cut,
                    stability=frame.stable.get(name),
                    other=frame.planes[1][name] if len(frame.planes) > 1 else None,
                    why=frame.why.get(name, ""),
                )
                tallies[name].certainty.add(evidence[name])
                if score is not None:
                    tallies[name].scores.append(score)
            verdict = confidence.judge(evidence, doubt or frame.unsure)
            overall.add(verdict)
            by_frame.append(round(verdict.confidence, 3))
            yield merged


def find_front_threshold(job: MaskJob) -> float:
    """The threshold that the first model's scores were cut at; 0.5 where it tells none."""
    names = [f"{job.sources[0].front}.{cut}" for cut in ("score", "box", "threshold")]
    return next((job.thresholds[name] for name in names if name in job.thresholds), 0.5)

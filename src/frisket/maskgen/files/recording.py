"""What became of a clip, written down: how sure its masks are, and what shaped them."""

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from frisket.maskgen.cleanup import confidence
from frisket.maskgen.cleanup.stages import Prompts
from frisket.maskgen.files import record
from frisket.maskgen.files.writing import Writing, brush_of
from frisket.maskgen.job import ClipResult, MaskJob, Task
from frisket.media.frames import Media
from frisket.media.paths import VIDEOS

log = logging.getLogger(__name__)

ANIMATIONS = (".gif", ".webp", ".apng", ".avif")  # may be stills or clips
NOTHING = "nothing was found"
MISSED = 0.1  # of a video's frames may be empty in short stretches before it is to be looked at
STRETCHES = 4  # named in a note, the longest


@dataclass(slots=True)
class ClipCounts:
    """What is known of one region, frame by frame."""

    scores: list[float] = field(default_factory=list)  # of frames that have one
    certainty: confidence.RunningConfidence = field(default_factory=confidence.RunningConfidence)


@dataclass(slots=True)
class Blanks:
    """Frames of a clip whose mask is empty, which teach nothing; told as stretches."""

    frames: int = 0
    stretches: list[tuple[int, int]] = field(default_factory=list)  # first and last frame of each

    def add(self, *, empty: bool) -> None:
        """Count the next frame, whose mask is `empty` or not."""
        at = self.frames
        self.frames += 1
        if not empty:
            return
        if self.stretches and self.stretches[-1][1] == at - 1:
            self.stretches[-1] = self.stretches[-1][0], at
        else:
            self.stretches.append((at, at))

    def doubt(self, gap: int) -> str:
        """Why the clip is to be looked at; empty where no stretch is longer than `gap` frames.

        ... and where no more than MISSED of the frames are empty in all.
        """
        count = sum(last - first + 1 for first, last in self.stretches)
        longest = max((last - first + 1 for first, last in self.stretches), default=0)
        if count == self.frames or (longest <= gap and count <= MISSED * self.frames):
            return ""
        examples = sorted(sorted(self.stretches, key=lambda it: it[0] - it[1])[:STRETCHES])
        ranges = ", ".join(
            f"{first} to {last}" if last > first else f"{first}" for first, last in examples
        )
        more = len(self.stretches) - len(examples)
        rest = f" and {more} shorter stretches" if more > 1 else " and one more" if more else ""
        return (
            f"{count} of {self.frames} frames have an empty mask and teach nothing (frames"
            f" {ranges}{rest}, counted from 0)"
        )


@dataclass(frozen=True, slots=True)
class ClipReport:
    """What a clip's frames said: of each region, of the whole, and why it is not to be trusted."""

    regions: Mapping[str, ClipCounts]
    overall: confidence.RunningConfidence
    doubt: str
    seconds: float
    by_frame: tuple[float, ...] = ()  # of a video, the confidence of each frame


def key_of(job: MaskJob, task: Task) -> str:
    """The hash of everything that shapes a clip's masks besides the clip."""
    contents: dict[str, Any] = {"job": job.key, "wanted": _list_prompts(task.prompts)}
    if (brush := brush_of(job, task)) is not None:
        contents["brush"] = record.Stamp.of(brush).sha256
    if task.clip.suffix.lower() in (*VIDEOS, *ANIMATIONS):
        contents["motion"] = asdict(job.motion)
    return record.key_of(contents)


def record_result(
    job: MaskJob, task: Task, media: Media, writing: Writing, report: ClipReport
) -> ClipResult:
    """Keep or drop what was written, and write the record.

    Without a pixel of any region no mask is kept: it would teach nothing, and a missing one is
    counted aloud wherever masks are read.
    """
    shares = writing.measure_shares()
    masked, video = any(shares.values()), media.video
    status: record.Status = "unsure" if report.doubt else "done" if masked else "nothing"
    notes = _list_notes(report, masked=masked, video=video)
    certainty = report.overall.mean if masked else 0.0
    if report.doubt:
        certainty = min(certainty, confidence.DOUBT)
    mask_record = record.MaskRecord(
        clip=record.Stamp.of(task.clip),
        frames=media.frames,
        height=media.height,
        width=media.width,
        status=status,
        settings=_list_settings(job, task, video=video),
        key=key_of(job, task),
        masks=writing.keep() if masked else writing.drop(),
        legend=dict(job.legend),
        regions={
            name: _summarise(tally, shares[name])
            for name, tally in report.regions.items()
            if shares.get(name)
        },
        models=job.models,
        thresholds=dict(job.thresholds),
        confidence=certainty,
        worst=report.overall.worst if video and masked else None,
        by_frame=report.by_frame if video and masked else (),
        notes=notes,
        seconds=round(report.seconds, 3),
    )
    record.save(mask_record, job.place.record(task.name))
    return ClipResult(task.name, status, certainty, "; ".join(notes), report.seconds, masked=masked)


def record_failed(job: MaskJob, task: Task, error: BaseException) -> ClipResult:
    """A clip that could not be done, and why; it is tried again in the next run.

    Where even that cannot be written down, the outcome alone says so.
    """
    try:
        path = job.place.record(task.name)
        earlier = record.load(path)
        blank = record.MaskRecord(
            clip=record.Stamp.of(task.clip),
            frames=0,
            height=0,
            width=0,
            status="failed",
            settings=_list_settings(job, task, video=False),
            key=key_of(job, task),
        )
        # Masks of an earlier run stay known as ours, lest they be taken for hand work.
        failure = replace(blank, masks=earlier.masks if earlier else (), notes=(str(error),))
        record.save(failure, path)
    except (OSError, ValueError) as again:
        log.warning("%s: its failure is in no record: %s", task.name, again)
    return ClipResult(task.name, "failed", None, str(error), masked=False)


def _list_notes(report: ClipReport, *, masked: bool, video: bool) -> tuple[str, ...]:
    """What a reader of the record should know: why unsure, that nothing was found, the worst."""
    reason = report.overall.reason if masked and not report.doubt else ""
    notes = (
        report.doubt,
        "" if masked else NOTHING,
        reason and f"least sure{_locate_worst(report, video=video)}: {reason}",
    )
    return tuple(note for note in notes if note)


def _locate_worst(report: ClipReport, *, video: bool) -> str:
    return f" at frame {report.overall.worst}" if video and report.overall.worst is not None else ""


def _summarise(tally: ClipCounts, share: float) -> record.DetectionRecord:
    return record.DetectionRecord(
        share=share,
        score=sum(tally.scores) / len(tally.scores) if tally.scores else None,
        confidence=tally.certainty.mean,
        notes=(tally.certainty.reason,) if tally.certainty.reason else (),
    )


def _list_settings(job: MaskJob, task: Task, *, video: bool) -> dict[str, Any]:
    settings = {**job.settings, "wanted": _list_prompts(task.prompts)}
    return settings | {"motion": asdict(job.motion)} if video else settings


def _list_prompts(prompts: Prompts) -> dict[str, list[str]]:
    return {name: list(phrases) for name, phrases in prompts.items()}

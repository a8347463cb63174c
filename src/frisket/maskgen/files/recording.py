"""What became of a clip, written down: how sure its masks are, and what shaped them."""

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from frisket.maskgen.cleanup import confidence
from frisket.maskgen.cleanup.compose import Wanted
from frisket.maskgen.files import record
from frisket.maskgen.files.writing import Writing, brush_of
from frisket.maskgen.job import Job, Outcome, Task
from frisket.media.frames import Media
from frisket.media.paths import VIDEOS

log = logging.getLogger(__name__)

ANIMATIONS = (".gif", ".webp", ".apng", ".avif")  # may be stills or clips
NOTHING = "nothing was found"
MISSED = 0.1  # of a video's frames may be empty in short stretches before it is to be looked at
STRETCHES = 4  # named in a note, the longest


@dataclass(slots=True)
class Tally:
    """What is known of one region, frame by frame."""

    scores: list[float] = field(default_factory=list)  # of frames that have one
    sure: confidence.Running = field(default_factory=confidence.Running)


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
        named = sorted(sorted(self.stretches, key=lambda it: it[0] - it[1])[:STRETCHES])
        where = ", ".join(
            f"{first} to {last}" if last > first else f"{first}" for first, last in named
        )
        more = len(self.stretches) - len(named)
        rest = f" and {more} shorter stretches" if more > 1 else " and one more" if more else ""
        return (
            f"{count} of {self.frames} frames have an empty mask and teach nothing (frames"
            f" {where}{rest}, counted from 0)"
        )


@dataclass(frozen=True, slots=True)
class Told:
    """What a clip's frames said: of each region, of the whole, and why it is not to be trusted."""

    regions: Mapping[str, Tally]
    whole: confidence.Running
    unsure: str
    seconds: float


def key_of(job: Job, task: Task) -> str:
    """The hash of everything that shapes a clip's masks besides the clip."""
    told: dict[str, Any] = {"job": job.key, "wanted": _listed(task.wanted)}
    if (brush := brush_of(job, task)) is not None:
        told["brush"] = record.Stamp.of(brush).sha256
    if task.clip.suffix.lower() in (*VIDEOS, *ANIMATIONS):
        told["motion"] = asdict(job.motion)
    return record.key_of(told)


def record_made(job: Job, task: Task, media: Media, written: Writing, told: Told) -> Outcome:
    """Keep or drop what was written, and write the record.

    Without a pixel of any region no mask is kept: it would teach nothing, and a missing one is
    counted aloud wherever masks are read.
    """
    shares = written.shares()
    there, video = any(shares.values()), media.video
    status: record.Status = "unsure" if told.unsure else "done" if there else "nothing"
    notes = _list_notes(told, masked=there, video=video)
    sure = told.whole.mean if there else 0.0
    if told.unsure:
        sure = min(sure, confidence.DOUBT)
    made = record.Record(
        clip=record.Stamp.of(task.clip),
        frames=media.frames,
        height=media.height,
        width=media.width,
        status=status,
        settings=_settings(job, task, video=video),
        key=key_of(job, task),
        masks=written.keep() if there else written.drop(),
        legend=dict(job.legend),
        regions={
            name: _found(tally, shares[name])
            for name, tally in told.regions.items()
            if shares.get(name)
        },
        models=job.models,
        thresholds=dict(job.thresholds),
        confidence=sure,
        worst=told.whole.worst if video and there else None,
        notes=notes,
        seconds=round(told.seconds, 3),
    )
    record.save(made, job.place.record(task.name))
    return Outcome(task.name, status, sure, "; ".join(notes), told.seconds, masked=there)


def record_failed(job: Job, task: Task, error: BaseException) -> Outcome:
    """A clip that could not be done, and why; it is tried again in the next run.

    Where even that cannot be written down, the outcome alone says so.
    """
    try:
        path = job.place.record(task.name)
        known = record.load(path)
        blank = record.Record(
            clip=record.Stamp.of(task.clip),
            frames=0,
            height=0,
            width=0,
            status="failed",
            settings=_settings(job, task, video=False),
            key=key_of(job, task),
        )
        # Masks of an earlier run stay known as ours, lest they be taken for hand work.
        kept = replace(blank, masks=known.masks if known else (), notes=(str(error),))
        record.save(kept, path)
    except (OSError, ValueError) as again:
        log.warning("%s: its failure is in no record: %s", task.name, again)
    return Outcome(task.name, "failed", None, str(error), masked=False)


def _list_notes(told: Told, *, masked: bool, video: bool) -> tuple[str, ...]:
    """What a reader of the record should know: why unsure, that nothing was found, the worst."""
    reason = told.whole.reason if masked and not told.unsure else ""
    notes = (
        told.unsure,
        "" if masked else NOTHING,
        reason and f"least sure{_where(told, video=video)}: {reason}",
    )
    return tuple(note for note in notes if note)


def _where(told: Told, *, video: bool) -> str:
    return f" at frame {told.whole.worst}" if video and told.whole.worst is not None else ""


def _found(tally: Tally, share: float) -> record.Found:
    return record.Found(
        share=share,
        score=sum(tally.scores) / len(tally.scores) if tally.scores else None,
        confidence=tally.sure.mean,
        notes=(tally.sure.reason,) if tally.sure.reason else (),
    )


def _settings(job: Job, task: Task, *, video: bool) -> dict[str, Any]:
    settings = {**job.settings, "wanted": _listed(task.wanted)}
    return settings | {"motion": asdict(job.motion)} if video else settings


def _listed(wanted: Wanted) -> dict[str, list[str]]:
    return {name: list(phrases) for name, phrases in wanted.items()}

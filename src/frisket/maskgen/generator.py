"""Clips to masks on disk: detect, choose, smooth, clean, compose, write, and say how sure it is."""

import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from frisket.maskgen.base import (
    BackendUnusable,
    Face,
    Follower,
    Instance,
    Mask,
    Picture,
    Seen,
)
from frisket.maskgen.cleanup import confidence
from frisket.maskgen.cleanup.clean import combine, tidy
from frisket.maskgen.cleanup.compose import Look, phrases_of, planes_of, union
from frisket.maskgen.cleanup.instances import choose, choose_tracks
from frisket.maskgen.files.recording import Blanks, Tally, Told, record_failed, record_made
from frisket.maskgen.files.writing import Writing
from frisket.maskgen.job import Job, Motion, Outcome, Task
from frisket.maskgen.pipeline import Models, Parts, front_role, look_of
from frisket.maskgen.tracking.carry import carry
from frisket.maskgen.tracking.temporal import seen
from frisket.maskgen.tracking.temporal_smoothing import steady
from frisket.maskgen.tracking.tracker import Tracked, follow, link, track
from frisket.maskgen.vision.loading import halving
from frisket.maskgen.vision.locked import FollowerInTurn, LookInTurn, TrackerInTurn
from frisket.media.frames import BadMedia, Media, probe, stream

STILL = Motion(smooth="none", gap=0)
FAULTS = (BadMedia, BackendUnusable, ValueError, OSError)  # of one clip: the others go on


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame as its sources see it: a table of planes each, and the scores of the first."""

    picture: Picture
    planes: Sequence[Mapping[str, Mask]]
    scores: Mapping[str, float | None]
    unsure: str = ""
    stable: Mapping[str, confidence.Stability] = field(default_factory=dict)
    why: Mapping[str, str] = field(default_factory=dict)  # what speaks against a region


class Maker:
    """Makes the masks of a job's clips with models that are loaded once."""

    def __init__(self, job: Job) -> None:
        """Nothing is loaded until a clip needs it."""
        self.job = job
        self.models = Models(job.weights, job.default, job.cuts)
        self._looks: dict[Parts, Look] = {}
        self._turn = threading.Lock()  # several threads read and write, one asks the models

    def close(self) -> None:
        """Let go of every model, on the device too."""
        self.models.close()

    def make(self, tasks: Sequence[Task]) -> Iterator[Outcome]:
        """Masks for clips, stills in batches; one outcome a task, in an order of its own.

        A clip whose file, phrases or target fails is told as `failed`; the others go on. What is
        wrong with the models themselves is raised.
        """
        for parts in self.job.sources:
            self._look(parts)
        stills: list[tuple[Task, Media]] = []
        for task in tasks:
            try:
                media = probe(task.clip)
            except FAULTS as error:
                yield record_failed(self.job, task, error)
                continue
            if media.video:
                yield self._guarded(task, media)
            else:
                stills.append((task, media))
        yield from self._stills(stills)

    def _look(self, parts: Parts) -> Look:
        with self._turn:
            if parts not in self._looks:
                look = look_of(parts, self.models, self.job.options)
                self._looks[parts] = LookInTurn(look, self._turn)
            return self._looks[parts]

    # Stills

    def _stills(self, asked: Sequence[tuple[Task, Media]]) -> Iterator[Outcome]:
        began = time.perf_counter()
        read: list[tuple[Task, Media, Picture]] = []
        for task, media in asked:
            try:
                read.append((task, media, next(stream(task.clip))))
            except FAULTS as error:
                yield record_failed(self.job, task, error)
        if not read:
            return
        try:
            answers = [self._answers(parts, read) for parts in self.job.sources]
        except FAULTS as error:
            if len(read) == 1:
                yield record_failed(self.job, read[0][0], error)
                return
            for task, media, _ in read:  # one of them is at fault: each by itself
                yield from self._stills([(task, media)])
            return
        each = (time.perf_counter() - began) / len(read)
        for (task, media, picture), *seens in zip(read, *answers, strict=True):
            yield self._guarded(task, media, picture, seens, each)

    def _answers(self, parts: Parts, read: Sequence[tuple[Task, Media, Picture]]) -> list[Seen]:
        look = self._look(parts)

        def run(some: Sequence[tuple[Task, Media, Picture]]) -> list[Seen]:
            return look([picture for *_, picture in some], [task.wanted for task, *_ in some])

        return list(halving(run, read, self.job.batch))

    def _guarded(
        self,
        task: Task,
        media: Media,
        picture: Picture | None = None,
        seens: Sequence[Seen] = (),
        spent: float = 0.0,
    ) -> Outcome:
        began = time.perf_counter() - spent
        try:
            if picture is None:
                return self._video(task, media, began)
            frame = self._frame(task, picture, seens)
            return self._finish(task, media, [frame], [picture], began, frame.unsure)
        except FAULTS as error:
            return record_failed(self.job, task, error)

    def _frame(self, task: Task, picture: Picture, seens: Sequence[Seen]) -> Frame:
        chosen = [self._chosen(picture, seen) for seen in seens]
        size = picture.shape[0], picture.shape[1]
        stable: Mapping[str, confidence.Stability] = {}
        if self.job.stability:
            # Of all that the source sees: a point to choose by would have to be mirrored too.
            look = self._look(self.job.sources[0])
            stable = confidence.stability(look, picture, task.wanted, seens[0])
        return self._seen_frame(picture, chosen, size, stable)

    def _seen_frame(
        self,
        picture: Picture,
        chosen: Sequence[Seen],
        size: tuple[int, int],
        stable: Mapping[str, confidence.Stability],
    ) -> Frame:
        scores: dict[str, float | None] = {}
        for one in chosen[0].instances:
            known = scores.get(one.region)
            told = [score for score in (known, one.score) if score is not None]
            scores[one.region] = max(told) if told else None
        doubts = [each.unsure for each in chosen if each.unsure]
        if self.job.everything_but and not any(each.instances for each in chosen):
            doubts.append("nothing to leave out was found, so all of it is taken")
        unsure = "; ".join(dict.fromkeys(doubts))
        planes = [self._planes(each, size) for each in chosen]
        why = {one.region: one.why for one in chosen[0].instances if one.why}
        return Frame(picture, planes, scores, unsure, stable, why)

    def _planes(self, chosen: Seen, size: tuple[int, int]) -> dict[str, Mask]:
        job = self.job
        if not job.everything_but:
            return planes_of(chosen, job.regions, *size)
        return {job.everything_but: 1 - union([one.mask for one in chosen.instances], *size)}

    def _chosen(self, picture: Picture, seen: Seen) -> Seen:
        how = self.job.choice
        if how.kind == "all":
            return seen
        size = picture.shape[0], picture.shape[1]
        return choose(seen, how, self._faces(picture), size)[0]

    def _faces(self, picture: Picture) -> list[Face] | None:
        if self.job.choice.kind != "face":
            return None
        with self._turn:
            (found,) = self.models.get(self.job.faces).faces([picture])
        return list(found)

    # Videos

    def _video(self, task: Task, media: Media, began: float) -> Outcome:
        size = media.height, media.width
        doubts: list[str] = []
        kept = [self._tracks(task, parts, size, doubts) for parts in self.job.sources]
        # Decoded anew for each reader, since they look ahead by different lengths.
        frames = (
            self._seen_frame(picture, [Seen(tuple(each)) for each in found], size, {})
            for picture, *found in zip(stream(task.clip), *kept, strict=True)
        )
        unsure = "; ".join(dict.fromkeys(doubts))
        return self._finish(task, media, frames, stream(task.clip), began, unsure)

    def _tracks(
        self, task: Task, parts: Parts, size: tuple[int, int], doubts: list[str]
    ) -> Iterator[list[Instance]]:
        """The instances of each frame, those of tracks that are not chosen left out."""
        how = self.job.choice
        if how.kind == "all":
            return ([one.instance for one in found] for found in self._tracked(task, parts))
        every = self.job.motion.tracking.every
        looked = (
            (found, self._faces(picture) if how.kind != "face" or at % every == 0 else None)
            for at, (picture, found) in enumerate(
                zip(stream(task.clip), self._tracked(task, parts), strict=True)
            )
        )
        chosen = choose_tracks(looked, how, size)
        if chosen.unsure:
            doubts.append(chosen.unsure)
        return (
            [one.instance for one in found if one.number in chosen.kept]
            for found in self._tracked(task, parts)
        )

    def _tracked(self, task: Task, parts: Parts) -> Iterator[list[Tracked]]:
        look, how = self._look(parts), self.job.motion.tracking

        def find(picture: Picture) -> Sequence[Instance]:
            return look([picture], [task.wanted])[0].instances

        frames = stream(task.clip)
        if not parts.tracker and front_role(parts.front) == "drafter":
            return carry(frames, lambda picture: look([picture], [task.wanted])[0], how)
        if not parts.tracker:
            return link(frames, find, how)
        with self._turn:
            tracker = self.models.get(parts.tracker)
        if isinstance(tracker, Follower):
            names, alone = phrases_of(task.wanted), FollowerInTurn(tracker, self._turn)
            return follow(frames, alone, list(names), regions=names, how=how)
        return track(frames, find, TrackerInTurn(tracker, self._turn), how)

    # Both

    def _finish(
        self,
        task: Task,
        media: Media,
        frames: Iterable[Frame],
        pictures: Iterable[Picture],
        began: float,
        unsure: str,
    ) -> Outcome:
        """Clean, compose and write frame by frame; then the record."""
        job = self.job
        regions = (job.everything_but,) if job.everything_but else job.regions
        tallies = {name: Tally() for name in regions}
        whole = confidence.Running()
        merged = self._merged(frames, tallies, whole, unsure)
        motion = job.motion if media.video else STILL
        blanks = Blanks()
        with Writing(job, task, media) as written:
            for picture, planes in steady(merged, pictures, regions, motion):
                tidied = {n: tidy(it, job.cleaned(n), picture) for n, it in planes.items()}
                blanks.add(empty=not any(seen(plane) for plane in tidied.values()))
                written.add(tidied)
        if media.video and written.shares() and not unsure:
            unsure = blanks.doubt(motion.gap)
        told = Told(tallies, whole, unsure, time.perf_counter() - began)
        return record_made(job, task, media, written, told)

    def _merged(
        self,
        frames: Iterable[Frame],
        tallies: Mapping[str, Tally],
        whole: confidence.Running,
        unsure: str,
    ) -> Iterator[dict[str, Mask]]:
        """One table of planes a frame, what speaks for each written down on the way."""
        cut = front_cut(self.job)
        for frame in frames:
            first = dict(frame.planes[0])
            merged = first
            for other in frame.planes[1:]:
                merged = {n: combine(merged[n], other[n], self.job.how) for n in merged}
            known: dict[str, confidence.Evidence] = {}
            for name, plane in merged.items():
                if not seen(plane):
                    continue
                score = frame.scores.get(name)
                known[name] = confidence.assess(
                    plane,
                    score=score,
                    threshold=cut,
                    stability=frame.stable.get(name),
                    other=frame.planes[1][name] if len(frame.planes) > 1 else None,
                    why=frame.why.get(name, ""),
                )
                tallies[name].sure.add(known[name])
                if score is not None:
                    tallies[name].scores.append(score)
            whole.add(confidence.verdict(known, unsure or frame.unsure))
            yield merged


def front_cut(job: Job) -> float:
    """The threshold that the first model's scores were cut at; 0.5 where it tells none."""
    names = [f"{job.sources[0].front}.{cut}" for cut in ("score", "box", "threshold")]
    return next((job.thresholds[name] for name in names if name in job.thresholds), 0.5)

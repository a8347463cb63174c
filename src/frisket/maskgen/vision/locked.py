"""Models that several threads share: one asks at a time, the others read and write meanwhile."""

from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock

from frisket.maskgen.base import Detections, RgbPicture, Seed, Track, Tracker, VideoGrounder
from frisket.maskgen.cleanup.stages import Prompts, SegmentationPipeline
from frisket.shapes import Frames, Plane


@dataclass(frozen=True, slots=True)
class LockedPipeline:
    """A pipeline that waits for its turn."""

    pipeline: SegmentationPipeline
    lock: Lock

    def __call__(
        self, pictures: Sequence[RgbPicture], prompts: Sequence[Prompts]
    ) -> list[Detections]:
        """As the pipeline does."""
        with self.lock:
            return self.pipeline(pictures, prompts)


@dataclass(frozen=True, slots=True)
class LockedTracker:
    """A tracker that waits for its turn."""

    tracker: Tracker
    lock: Lock

    def track(
        self, frames: Frames, seeds: Sequence[Seed], *, reverse: bool = False
    ) -> dict[int, Plane]:
        """As the tracker does."""
        with self.lock:
            return self.tracker.track(frames, seeds, reverse=reverse)


@dataclass(frozen=True, slots=True)
class LockedVideoGrounder:
    """A follower that waits for its turn."""

    follower: VideoGrounder
    lock: Lock

    def follow(self, frames: Frames, phrases: Sequence[str]) -> list[Track]:
        """As the follower does."""
        with self.lock:
            return self.follower.follow(frames, phrases)

"""Models that several threads share: one asks at a time, the others read and write meanwhile."""

from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock

from frisket.maskgen.base import Follower, Picture, Seed, Seen, Track, Tracker
from frisket.maskgen.cleanup.compose import Look, Wanted
from frisket.shapes import Frames, Plane


@dataclass(frozen=True, slots=True)
class LookInTurn:
    """A pipeline that waits for its turn."""

    look: Look
    turn: Lock

    def __call__(self, pictures: Sequence[Picture], wanted: Sequence[Wanted]) -> list[Seen]:
        """As the pipeline does."""
        with self.turn:
            return self.look(pictures, wanted)


@dataclass(frozen=True, slots=True)
class TrackerInTurn:
    """A tracker that waits for its turn."""

    tracker: Tracker
    turn: Lock

    def track(
        self, frames: Frames, seeds: Sequence[Seed], *, reverse: bool = False
    ) -> dict[int, Plane]:
        """As the tracker does."""
        with self.turn:
            return self.tracker.track(frames, seeds, reverse=reverse)


@dataclass(frozen=True, slots=True)
class FollowerInTurn:
    """A follower that waits for its turn."""

    follower: Follower
    turn: Lock

    def follow(self, frames: Frames, phrases: Sequence[str]) -> list[Track]:
        """As the follower does."""
        with self.turn:
            return self.follower.follow(frames, phrases)

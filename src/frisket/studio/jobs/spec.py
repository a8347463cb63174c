"""What a job is to do: a command of ours, where it runs, and what the page should know of it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

JobState = Literal["queued", "running", "stopping", "finished", "failed", "stopped"]

ENDED: frozenset[JobState] = frozenset({"finished", "failed", "stopped"})
TITLE = 200  # letters
NOT_JOBS = ("studio", "serve")  # commands that would not end by themselves
_DEVICE = re.compile(r"cpu|mps|cuda(:\d{1,2})?")
_KIND = re.compile(r"[a-z][a-z0-9_-]{0,31}")


class BadJob(ValueError):
    """A job that cannot be run as it was asked for; the message says why."""


@dataclass(frozen=True, slots=True)
class JobSpec:
    """A command to run as a child, `argv` being what stands behind `frisket`.

    `device` is where the work is heavy ("cpu", "cuda:0"): of those one runs at a time; None is
    light work, which need not wait. `outputs` are paths by kind that it will write; what the
    command itself reports is added. `about` is JSON for the page. Raises BadJob.
    """

    kind: str
    title: str
    argv: Sequence[str]
    device: str | None = None
    outputs: Mapping[str, str] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not _KIND.fullmatch(self.kind):
            raise BadJob(f"kind {self.kind!r}: use small letters, as in `masks`")
        if isinstance(self.argv, str) or not self.argv:
            raise BadJob(f"argv {self.argv!r}: give the words behind `frisket`, one by one")
        if any("\0" in word for word in self.argv):
            raise BadJob("argv: a word of a command holds no NUL")
        if self.argv[0] in NOT_JOBS or self.argv[0].startswith("-"):
            raise BadJob(f"argv: `frisket {self.argv[0]}` is no job")
        object.__setattr__(self, "argv", tuple(self.argv))
        object.__setattr__(self, "title", self.title[:TITLE] or self.argv[0])
        object.__setattr__(self, "device", name_device(self.device))


def name_device(device: str | None) -> str | None:
    """A device by the one name that its queue has ("cuda" is "cuda:0"). Raises BadJob."""
    if device is None:
        return None
    if not _DEVICE.fullmatch(device):
        raise BadJob(f"device {device!r}: use cpu, mps, cuda or cuda:N, or none for light work")
    return "cuda:0" if device == "cuda" else device

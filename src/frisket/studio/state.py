"""What one studio holds: its folder, its events, its jobs, the children that do numerics."""

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from fastapi import Depends, Request

from frisket.studio.events import EventStream
from frisket.studio.jobs.queue import JobQueue
from frisket.studio.serve_pool import ServePool
from frisket.studio.workspace import Workspace

HOME = ".frisket-studio"  # below the opened folder: jobs, history of masks, trash, settings


@dataclass(slots=True)
class Studio:
    """One opened folder and what runs for it."""

    workspace: Workspace
    events: EventStream = field(default_factory=EventStream)
    serve: ServePool = field(default_factory=ServePool)
    jobs: JobQueue = field(init=False)  # opened and closed with the server

    def __post_init__(self) -> None:
        self.jobs = JobQueue(self.home, self.root, self.events.publish)

    @property
    def root(self) -> Path:
        """The opened folder, absolute; ids stand for paths below it."""
        return self.workspace.root

    @property
    def home(self) -> Path:
        """Where the studio keeps its own files for this folder."""
        return self.root / HOME

    @property
    def cache(self) -> Path:
        """Where thumbnails of this folder lie: nothing there is missed."""
        base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
        key = hashlib.sha256(os.fsencode(self.root)).hexdigest()[:16]
        return Path(base).expanduser() / "frisket" / "studio" / key


def get_studio(request: Request) -> Studio:
    """The studio that a request is about."""
    studio: Studio = request.app.state.studio
    return studio


OpenStudio = Annotated[Studio, Depends(get_studio)]  # the studio, as a route asks for it

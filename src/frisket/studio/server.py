"""Runs the application on a socket until Ctrl-C; the jobs it started outlive it."""

import contextlib
import socket

import uvicorn
from fastapi import FastAPI

from frisket.studio.state import Studio

PATIENCE = 3  # seconds that requests have to end


class StudioServer(uvicorn.Server):
    """A server whose streams and questions end with it: they would keep it waiting otherwise."""

    studio: Studio | None = None

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the streams and what `frisket serve` was asked, then as any server."""
        if self.studio is not None:
            self.studio.events.close()
            await self.studio.serve.close()
        await super().shutdown(sockets)


def run_server(app: FastAPI, studio: Studio, listener: socket.socket) -> list[str]:
    """Serve until Ctrl-C; the titles of the jobs that go on without a server."""
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=PATIENCE,
        server_header=False,
    )
    server = StudioServer(config)
    server.studio = studio
    with contextlib.suppress(KeyboardInterrupt):  # uvicorn hands on the Ctrl-C that ended it
        server.run(sockets=[listener])
    return [
        f"{job.spec.title} (process {job.process.pid})" if job.process else job.spec.title
        for job in studio.jobs.list_jobs()
        if job.active
    ]

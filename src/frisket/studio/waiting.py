"""Answers that nobody waits for any more are not computed."""

import asyncio
from typing import Any

from fastapi import HTTPException, Request

from frisket.studio.serve_pool import Lane, Reply, ServeProgress
from frisket.studio.state import Studio

LOOK = 0.05  # seconds between two looks whether the page has gone on
CLIENT_GONE = 499  # the client closed the request; nobody reads it


async def call_while_wanted(
    request: Request,
    studio: Studio,
    op: str,
    args: dict[str, Any],
    *,
    body: bytes = b"",
    lane: Lane = "quick",
    progress: ServeProgress | None = None,
) -> Reply:
    """`studio.serve.call`, given up when the page aborts its request; ServeError as there."""
    call = asyncio.ensure_future(
        studio.serve.call(op, args, body=body, lane=lane, progress=progress)
    )
    try:
        while True:
            finished_calls, _ = await asyncio.wait({call}, timeout=LOOK)
            if finished_calls:
                return call.result()
            if await request.is_disconnected():
                raise HTTPException(CLIENT_GONE, "nobody waits for it")
    finally:
        if not call.done():
            call.cancel()

"""The one stream of events."""

from typing import Annotated

from fastapi import APIRouter, Header
from fastapi.responses import StreamingResponse

from frisket.studio.state import OpenStudio

router = APIRouter()


@router.get("/events")
async def read_events(
    studio: OpenStudio,
    last_event_id: Annotated[str, Header(max_length=40)] = "",
) -> StreamingResponse:
    """What happens from here on; after `Last-Event-ID`, what was missed first."""
    return StreamingResponse(studio.events.read(last_event_id), media_type="text/event-stream")

"""`frisket masks track`, apart from its recipe so that help needs no torch."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from frisket.progress import Bar

DOUBT_BELOW = 0.7  # confidence below which a frame is named
FRAMES_LISTED = 12


def add(app: typer.Typer, bar: Bar) -> None:
    """Add the command to the group, with a progress bar of the caller's."""
    app.command("track")(_make_track(bar))


def _make_track(bar: Bar) -> Callable[..., None]:
    def track(
        clip: Annotated[Path, typer.Argument(help="Video, or folder of frames.")],
        start: Annotated[int, typer.Option("--from", help="Frame whose mask is carried on.")],
        end: Annotated[
            int, typer.Option("--to", help="Last frame to carry it to, before or after.")
        ],
        key: Annotated[
            list[int] | None,
            typer.Option(
                help="A frame that is right as it is; repeatable. Those painted in the"
                " studio are known."
            ),
        ] = None,
        masks: Annotated[
            Path | None, typer.Option(help="Mask folder; by default `masks` beside `clips`.")
        ] = None,
        clips: Annotated[
            Path | None, typer.Option(help="Clip folder, for a clip in a folder below it.")
        ] = None,
        tracker: Annotated[
            str, typer.Option(help="flow (needs no weights), or sam2_video.")
        ] = "flow",
        source: Annotated[
            str, typer.Option(help="Folder or hub id of the tracker's weights.")
        ] = "",
        device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    ) -> None:
        """Carry the mask of one frame of a video to others, and say how sure each is."""
        from frisket.recipes.masks.track import TrackRange, load_carrier, track_clip

        carrier = load_carrier(tracker, source, device)
        span = TrackRange(start, end, key or ())
        with bar() as progress:
            carried = track_clip(clip, span, carrier, clips=clips, masks=masks, progress=progress)
        typer.echo(f"{carried.mask}: {len(carried.tracked)} of {carried.total} frames carried")
        if carried.replaced:
            typer.echo(f"in the place of {carried.replaced}, which stood for all frames")
        if len(carried.tracked) < carried.total:
            typer.echo("beyond a cut nothing is carried: paint a frame there")
        doubtful_frames = [
            (frame, confidence) for frame, confidence in carried.tracked if confidence < DOUBT_BELOW
        ]
        if doubtful_frames:
            worst = sorted(doubtful_frames, key=lambda pair: pair[1])[:FRAMES_LISTED]
            words = ", ".join(f"{frame} ({confidence:.0%})" for frame, confidence in sorted(worst))
            more = (
                f" and {len(doubtful_frames) - FRAMES_LISTED} more"
                if len(doubtful_frames) > FRAMES_LISTED
                else ""
            )
            typer.echo(f"look at the frames {words}{more}")

    return track

"""`frisket edit`, apart from the recipe so that help needs no torch."""

from typing import TYPE_CHECKING

import typer

from frisket.cli.model_options import TypedOptions, add_command
from frisket.cli.options import report_stop
from frisket.cli.report.event_file import record_output
from frisket.progress import Bar

if TYPE_CHECKING:
    from frisket.config.editing.request import VideoEditRequest


def add(app: typer.Typer, bar: Bar) -> None:
    """Add the command, with a progress bar of the caller's."""

    def edit(typed: TypedOptions) -> None:
        """Edit one video by its mask, behind an edited first frame (LoRA-Edit; docs/edit-a-video).

        A LoRA learns how the clip moves, with the masked region freed; the clip is then sampled
        behind the edited first frame. Go on with a stopped edit, or sample again, by the same call.
        """
        from frisket.config.load import read_both
        from frisket.recipes.edit.edit import edit as run

        request, config, _ = read_both(_load_request(), typed)
        try:
            with bar() as progress:
                result = run(request, config, progress=progress)
        except KeyboardInterrupt as stop:
            raise report_stop(stop) from stop
        for clip in result.clips:
            record_output("clip", clip)
        record_output("lora", result.lora)
        typer.echo("\n".join(str(clip) for clip in result.clips))

    add_command(app, "edit", edit, _load_request)


def _load_request() -> "type[VideoEditRequest]":
    from frisket.config.editing.request import VideoEditRequest

    return VideoEditRequest

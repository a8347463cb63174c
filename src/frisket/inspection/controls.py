"""What looks wrong with the control picture of a clip, and the picture itself for the page."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8

from frisket.data.control.files import ControlFile, check_control, read_control_frame
from frisket.data.records import Clipset, Window
from frisket.inspection.findings import Finding, Severity
from frisket.inspection.views import shrink
from frisket.media.files import ClipFiles
from frisket.media.frames import BadMedia, Media, probe


def look_at_control(clipset: Clipset, clip: ClipFiles, windows: Sequence[Window]) -> list[Finding]:
    """What is wrong with the control of a clip, or with its absence."""
    picks = [window.geometry.picks for window in windows]
    return open_control(clipset, clip, windows[0].media, picks)[1]


def open_control(
    clipset: Clipset, clip: ClipFiles, media: Media, picks: Sequence[Sequence[int]]
) -> tuple[ControlFile | None, list[Finding]]:
    """The control of a clip where it fits, and what is wrong with it or with its absence.

    `picks` are the frames of each training clip of the file. A control that does not fit is None.
    """
    if clipset.control is None:
        return None, []
    if clip.control is None:
        stays = clipset.control.leave_out
        fix = (
            "Training leaves the clip out; make one (`frisket control make`) to train on it."
            if stays
            else "Training refuses to start like this: make it (`frisket control make`), or set"
            ' control = { path = FOLDER, missing = "leave out" }.'
        )
        severity: Severity = "warning" if stays else "error"
        sentence = "It has no control picture, and its data set has a folder of them."
        return None, [Finding("no control", severity, clip.name, sentence, fix)]
    try:
        control = ControlFile(clip.control, "", probe(clip.control))
        check_control(control, media, picks)
    except BadMedia as error:
        fix = "Training refuses to start like this: make the control picture again."
        return None, [Finding("control", "error", clip.name, f"{error}.", fix)]
    return control, []


def view_control(
    window: Window, place: int, size: tuple[int, int]
) -> UInt8[np.ndarray, "H W 3"] | None:
    """The control of one frame of a window (by place), cut as trained, at (width, height)."""
    if window.control is None:
        return None
    pixels = read_control_frame(window.control, window.geometry, window.media.frames, place)
    return shrink(pixels.permute(1, 2, 0).contiguous().numpy(), size)

"""Control pictures of one `prepare`: which are known, which are still to be cut or encoded."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from frisket.data.cached.colours import hash_content
from frisket.data.cached.finite import NotFinite, check_finite
from frisket.data.cached.status import Entries
from frisket.data.cached.store import key_of
from frisket.data.control.files import ControlFile, check_control, is_pose, read_control
from frisket.data.records import Clipset, Window
from frisket.media.files import ClipFiles
from frisket.media.frames import BadMedia, Media
from frisket.progress import Progress

log = logging.getLogger(__name__)

ClipCut = tuple[tuple[int, ...], tuple[int, int]]  # picked frames, and height and width

CLIPS_NAMED = 20  # clips an error names before it counts the rest


class NoControl(ValueError):
    """Clips without the control picture that their data set promises; names them and the fix."""


class ControlUnusable(ValueError):
    """Control pictures beside something that would make them wrong; says what to leave out."""


@runtime_checkable
class ControlEncoder(Protocol):
    """What a ControlNet reads of a control through the VAE; loaded when first called.

    `record` names everything that changes what it gives (family, variant, weights, dtype, net where
    it takes part): it is part of the cache keys.
    """

    record: Mapping[str, Any]

    def read(self, control: Float[Tensor, "1 3 F H W"]) -> Float[Tensor, "1 c f h w"]:
        """One control clip, RGB in [0, 1], to what `ControlSupport.read` makes of it."""
        ...

    def unload(self) -> None:
        """Let go of what is loaded."""
        ...


@dataclass(slots=True)
class ControlEntries:
    """The controls of all clips; nothing is decoded before `run`, no model loaded before `encode`.

    Without `encoder` there are pixels alone.
    """

    entries: Entries
    probe: Callable[[Path, str], Media]
    progress: Progress
    bad: dict[str, str]  # file -> what is wrong with it; shared with the rest of `prepare`
    hints: list[str]  # shared as well: what a user should know, a sentence each
    encoder: ControlEncoder | None = None
    lacking: list[str] = field(default_factory=list)  # clips that must have one and have none
    stills: list[str] = field(default_factory=list)  # videos of the data set at hand with a picture
    _jobs: dict[str, Window] = field(default_factory=dict)  # missing pixels, by key
    _latents: dict[str, tuple[Window, str]] = field(default_factory=dict)  # to the key of pixels

    def select(self, clipset: Clipset, clips: Sequence[ClipFiles]) -> list[ClipFiles]:
        """The clips that have a control, where the data set wants one; the others are counted."""
        self.stills.clear()
        if clipset.control is None:
            return list(clips)
        without = [clip.name for clip in clips if clip.control is None]
        if clipset.control.leave_out and without:
            self.hints.append(
                f"{clipset.clips}: {len(without)} clips have no control picture and stay out:"
                f" {_spell_names(without)}"
            )
        elif without:
            self.lacking += without
        return [clip for clip in clips if clip.control is not None]

    def open(
        self, clipset: Clipset, clip: ClipFiles, media: Media, cuts: Sequence[ClipCut]
    ) -> ControlFile | None:
        """The control of a clip, checked against it; ControlMismatch, BadMedia, ControlUnusable.

        `cuts` are the frames and the size of each training clip of the file.
        """
        if clipset.control is None or clip.control is None:
            return None
        if clipset.flip and is_pose(clip.control):
            raise ControlUnusable(
                f"{clip.control}: a drawn pose that is mirrored keeps the colours of the other"
                f" side, and tells of somebody turned round; set flip = false for {clipset.clips}"
            )
        content = hash_content(self.entries.index, clip.control)
        control = ControlFile(clip.control, content, self.probe(clip.control, content))
        runs = [picks for picks, _ in cuts]
        check_control(control, media, runs)
        if control.still and any(len(run) > 1 for run in runs):
            self.stills.append(clip.name)
        return control

    def report_stills(self, clipset: Clipset) -> None:
        """Say once of a data set that still pictures stand for whole videos, if any do."""
        if self.stills:
            log.info(
                "%s: %d videos have one still control picture, which stands for all of their"
                " frames: %s",
                clipset.clips,
                len(self.stills),
                _spell_names(self.stills),
            )
            self.stills.clear()

    def plan(self, window: Window) -> tuple[str | None, str | None]:
        """The keys of a window's control: of its pixels, and of what the net reads of them."""
        if window.control is None:
            return None, None
        record = window.control.record(window.geometry, window.media.frames)
        key = key_of(record)
        ready = self.entries.ready("control", key)
        if not ready:
            self._jobs[key] = window
        if self.encoder is None:
            return key, None
        latents = key_of({**record, "kind": "control latents", "encoder": self.encoder.record})
        if not self.entries.ready("control", latents):
            self._latents[latents] = (window, key)
        return key, latents

    def stop_if_lacking(self) -> None:
        """NoControl, with their names, where clips lack a control they must have."""
        if self.lacking:
            raise NoControl(
                f"{len(self.lacking)} clips have no control picture: {_spell_names(self.lacking)};"
                " make them (`frisket control make`), or leave those clips out with control ="
                ' { path = FOLDER, missing = "leave out" }'
            )

    def run(self) -> None:
        """ClipCut and store what is missing; fills `bad`."""
        for count, (key, window) in enumerate(self._jobs.items(), 1):
            control = window.control
            assert control is not None  # `plan` remembers no other
            try:
                pixels = read_control(control, window.geometry, window.media.frames)
            except BadMedia as error:
                self.bad[str(control.path)] = str(error)
                continue
            self.entries.store("control", key, {"pixels": pixels})
            self.progress("control", count, len(self._jobs))
        self._jobs.clear()
        self.entries.index.commit()

    def encode(self) -> None:
        """Store what the net reads of each control that is not there yet; fills `bad`."""
        if self.encoder is None:
            return
        for count, (key, (window, source)) in enumerate(self._latents.items(), 1):
            self.entries.index.commit()  # never hold its lock while a model runs
            control = window.control
            assert control is not None
            pixels = self.entries.cache.load("control", source).tensors["pixels"]
            frames = pixels.expand(-1, len(window.geometry.picks), -1, -1)
            tensors = {"latents": self.encoder.read(frames[None].float() / 255)[0]}
            try:
                check_finite(tensors, "VAE", self.encoder.record)
            except NotFinite as error:
                self.bad[str(control.path)] = str(error)
                continue
            self.entries.store("control", key, tensors)
            self.progress("control latents", count, len(self._latents))
        self._latents.clear()
        self.encoder.unload()


def check_controls(clipsets: Sequence[Clipset], *, swapped: bool, mixed: bool) -> None:
    """ControlUnusable where only some data sets have controls, or composites would belie them."""
    with_control = [clipset for clipset in clipsets if clipset.control is not None]
    if not with_control:
        return
    without = [str(clipset.clips) for clipset in clipsets if clipset.control is None]
    if without:
        raise ControlUnusable(
            f"{with_control[0].clips} has control pictures and {', '.join(without)} has none: a"
            " batch may hold clips of both; give every [[data]] and [[validation.data]] a"
            " `control`, or none"
        )
    for name, acts in (("swap", swapped), ("mix", mixed)):
        if acts:
            raise ControlUnusable(
                f"{name}.rate: a {name} changes what a clip shows and its control picture stays as"
                f" it was, so the two would not agree; set {name}.rate = 0, or take `control` out"
                " of [[data]]"
            )


def _spell_names(names: Sequence[str]) -> str:
    more = f" and {len(names) - CLIPS_NAMED} more" if len(names) > CLIPS_NAMED else ""
    return f"{', '.join(names[:CLIPS_NAMED])}{more}"

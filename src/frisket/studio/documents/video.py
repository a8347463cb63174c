"""The mask of a video: painted frame by frame, kept as drafts until the whole file is written."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from anyio.from_thread import run as run_in_loop

from frisket.maskgen.files.drafts import DraftNote, FrameDraft, share_out
from frisket.maskgen.files.edits import EditLog, LoggedSave
from frisket.maskgen.files.frame_codes import FrameCode, LevelPlane
from frisket.media.paths import VIDEOS
from frisket.studio.documents.base import (
    Conflict,
    Description,
    MaskContent,
    MaskNotEditable,
    MaskPatch,
    Snapshot,
    derive_ids,
)
from frisket.studio.documents.finding import MaskPlace, find_mask
from frisket.studio.documents.forms import ColourForm, LevelForm, PaintForm, SoftForm
from frisket.studio.documents.installing import install_files
from frisket.studio.documents.reels import PaintedFrames, SavedFrames, stamp_files
from frisket.studio.serve_pool import Reply
from frisket.studio.state import Studio
from frisket.studio.workspace import WorkspaceClip

FPS = 25.0  # of a label video whose clip tells no rate
REELS = "frames"  # below the studio's own folder
AskChild = Callable[[str, dict[str, Any]], Reply]  # an operation of a child, waited for


@dataclass(frozen=True, slots=True)
class FootageSize:
    """What a clip is: its frames, and their size in pixels as seen."""

    frames: int
    height: int
    width: int
    fps: float


@dataclass(frozen=True, slots=True)
class VideoDocument:
    """A clip's mask. Frames that were painted are drafts, laid over what the files have.

    `call` asks the child that decodes; it may be used in a thread of the server's alone.
    """

    clip: WorkspaceClip
    place: MaskPlace
    reel: PaintedFrames
    log: EditLog
    call: AskChild
    size: FootageSize

    def read(self, frame: int) -> Snapshot:
        """As `MaskDocument.read`, of one frame, counted from 0."""
        self._check(frame)
        form = self.place.form
        if form is None or isinstance(form, ColourForm):
            return self._show_blank(frame, self._say_why(), self.place.offer)
        with self.reel.lock:
            notes, saved = self.reel.drafts.list_notes(), self.reel.load_saved()
            revision = self.reel.name_revision(frame, notes, saved, self.stamp)
            content = self._read(form, frame, notes)
        return Snapshot(self._describe(form, frame, revision, content), content)

    def write(self, frame: int, patch: MaskPatch, revision: str) -> str:
        """See `MaskDocument.write`. The frame becomes one that a hand painted."""
        form, notes, saved = self._open(frame, revision)
        with self.reel.lock:
            before = self._read(form, frame, notes)
            content = before.copy()
            patch.apply(content)
            if form.truth == "soft":
                content.ids = derive_ids(content.soft, content.ids.shape, form.background)
            number = self._find_number(frame, notes, saved) + 1
            pictures = form.encode(content, before, list(self.place.files))
            draft = FrameDraft(frame, pictures, "hand", None, number, share_out(content.ids))
            self.reel.drafts.save(draft)
            newest = self._name_newest(frame)
        self._log(form, frame, (revision, newest), patch)
        return newest

    def copy_frame(self, source: int, targets: range) -> list[int]:
        """Lay the mask of one frame on others, which count as painted; the frames that are new."""
        self._check(source)
        self._check(targets[-1])
        form = self._need_form()
        with self.reel.lock:
            notes, saved = self.reel.drafts.list_notes(), self.reel.load_saved()
            content = self._read(form, source, notes)
            pictures = form.encode(content, content, list(self.place.files))
            shares = share_out(content.ids)
            frames = [frame for frame in targets if frame != source]
            for frame in frames:
                number = self._find_number(frame, notes, saved) + 1
                self.reel.drafts.save(FrameDraft(frame, pictures, "hand", None, number, shares))
        return frames

    @property
    def stamp(self) -> str:
        """What tells whether the files of the mask were changed."""
        return stamp_files({key: path for key, path in self.place.files.items() if path.exists()})

    @property
    def still(self) -> bool:
        """Whether one picture stands for all frames."""
        return any(
            not path.is_dir() and path.suffix.lower() not in VIDEOS
            for path in self.place.files.values()
        )

    def describe_footage(self) -> dict[str, Any]:
        """The mask as the operations of `footage` take it; MaskNotEditable where there is none."""
        form = self._need_form()
        return {
            "clip": str(self.clip.path),
            "frames": self.size.frames,
            "height": self.size.height,
            "width": self.size.width,
            "fps": self.size.fps,
            "code": build_code(form).dump(),
            "files": {key: str(path) for key, path in self.place.files.items()},
            "drafts": str(self.reel.folder),
        }

    def _need_form(self) -> PaintForm:
        form = self.place.form
        if form is None or isinstance(form, ColourForm):
            raise MaskNotEditable(self._say_why())
        return form

    def _say_why(self) -> str:
        if isinstance(self.place.form, ColourForm):
            return (
                "its masks are videos of colours, which are not painted; bring them to label maps"
                " (frisket masks import)"
            )
        return self.place.reason

    def _open(
        self, frame: int, revision: str
    ) -> tuple[PaintForm, dict[int, DraftNote], SavedFrames]:
        self._check(frame)
        form = self._need_form()
        notes, saved = self.reel.drafts.list_notes(), self.reel.load_saved()
        newest = self.reel.name_revision(frame, notes, saved, self.stamp)
        if newest != revision:
            raise Conflict(newest)
        return form, notes, saved

    def _name_newest(self, frame: int) -> str:
        notes = self.reel.drafts.list_notes()
        return self.reel.name_revision(frame, notes, self.reel.load_saved(), self.stamp)

    def _find_number(self, frame: int, notes: Mapping[int, DraftNote], saved: SavedFrames) -> int:
        """How often a frame was changed."""
        if frame in notes:
            return notes[frame].number
        revision_number = saved.revisions.get(frame, "0").partition("-")[0]
        return int(revision_number) if revision_number.isdecimal() else 0

    def _check(self, frame: int) -> None:
        if not 0 <= frame < self.size.frames:
            raise ValueError(f"{self.clip.name} has {self.size.frames} frames, none is {frame}")

    def _read(self, form: PaintForm, frame: int, notes: Mapping[int, DraftNote]) -> MaskContent:
        draft = self.reel.drafts.load(frame) if frame in notes else None
        planes = draft.read_planes() if draft else self._ask_planes(frame)
        shape = self.size.height, self.size.width
        return compose_content(form, planes, shape)

    def _ask_planes(self, frame: int) -> dict[str, LevelPlane]:
        args = {"footage": self.describe_footage(), "frame": frame}
        reply = self.call("footage.read", args)
        shape, keys = (self.size.height, self.size.width), reply.value["keys"]
        pixels = shape[0] * shape[1]
        return {
            key: np.frombuffer(reply.body, np.uint8, pixels, place * pixels).reshape(shape)
            for place, key in enumerate(keys)
        }

    def _describe(
        self, form: PaintForm, frame: int, revision: str, content: MaskContent
    ) -> Description:
        notes = []
        if self.still:
            notes.append(
                f"one still mask stands for all {self.size.frames} frames; a frame that you paint"
                " gets a mask of its own"
            )
        return Description(
            self.size.width,
            self.size.height,
            revision,
            form.name,
            form.regions,
            form.background,
            form.truth,
            tuple(content.soft),
            frame=frame,
            frame_count=self.size.frames,
            notes=tuple(notes),
        )

    def _show_blank(self, frame: int, reason: str, offer: str) -> Snapshot:
        described = Description(
            self.size.width,
            self.size.height,
            "0-none",
            "none",
            editable=False,
            reason=reason,
            offer=offer,
            frame=frame,
            frame_count=self.size.frames,
        )
        shape = self.size.height, self.size.width
        return Snapshot(described, MaskContent(np.zeros(shape, np.uint8)))

    def _log(
        self, form: PaintForm, frame: int, revisions: tuple[str, str], patch: MaskPatch
    ) -> None:
        before, after = revisions
        self.log.append(
            LoggedSave(
                name=self.place.name,
                frame=frame,
                width=self.size.width,
                height=self.size.height,
                before=before,
                after=after,
                when=datetime.now(UTC).isoformat(timespec="seconds"),
                legend={region.name: region.id for region in form.regions},
                edits=patch.edits,
            )
        )


def build_code(form: PaintForm) -> FrameCode:
    """How the frames of a form spell ids."""
    if isinstance(form, LevelForm):
        return FrameCode("levels", form.levels, background=form.background)
    if isinstance(form, SoftForm):
        return FrameCode("soft", keys=form.files, invert=form.invert, background=form.background)
    return FrameCode("labels", background=form.background)


def compose_content(
    form: PaintForm, planes: Mapping[str, LevelPlane], shape: tuple[int, int]
) -> MaskContent:
    """The pixels of a frame from its planes by file, as `PaintForm.decode` has them of a still."""
    if isinstance(form, SoftForm):
        blank = np.full(shape, 255 if form.invert else 0, np.uint8)
        soft = {
            number: 255 - plane if form.invert else plane.copy()
            for key, number in form.files.items()
            for plane in [planes.get(key, blank)]
        }
        return MaskContent(derive_ids(soft, shape, form.background), soft)
    plane = planes[""]
    if isinstance(form, LevelForm):
        return MaskContent(build_code(form).to_ids(planes), raw=plane)
    return MaskContent(plane)


def open_video(studio: Studio, clip: WorkspaceClip, place: MaskPlace) -> VideoDocument:
    """The document of a clip, in a thread of the server's. ServeError where it cannot be read."""

    def call(op: str, args: dict[str, Any]) -> Reply:
        reply: Reply = run_in_loop(studio.serve.call, op, args)
        return reply

    info = call("frames.info", {"path": str(clip.path)}).value
    size = FootageSize(
        int(info["frames"]), int(info["height"]), int(info["width"]), info["fps"] or FPS
    )
    reel = PaintedFrames(studio.home / REELS / clip.id)
    with reel.lock:
        if reel.load_saved().installing:
            install_files(studio.home, clip.id, place, reel)
            place = find_mask(clip, studio.workspace.get_set(clip.set_id))
    log = EditLog(studio.home / "edits" / f"{clip.id}.jsonl")
    return VideoDocument(clip, place, reel, log, call, size)

"""A clip's id to its mask document."""

from importlib import import_module
from importlib.util import find_spec

from frisket.studio.documents.base import MaskDocument, NotEditable
from frisket.studio.documents.edits import EditLog
from frisket.studio.documents.finding import MaskPlace, find_mask
from frisket.studio.documents.history import History
from frisket.studio.documents.still import StillDocument
from frisket.studio.state import Studio
from frisket.studio.workspace import Clip

VIDEO = "frisket.studio.documents.video"


def open_document(studio: Studio, clip_id: str) -> MaskDocument:
    """The document of a clip; UnknownId, and what `find_mask` raises."""
    clip = studio.workspace.get_clip(clip_id)
    place = find_mask(clip, studio.workspace.get_set(clip.set_id))
    if clip.video or clip.path.is_dir():
        return _open_video(studio, clip, place)
    return open_still(studio, clip, place)


def open_still(studio: Studio, clip: Clip, place: MaskPlace) -> StillDocument:
    """The document of a picture, or of a still mask that stands for all frames of a video."""
    history = History(studio.home / "history" / clip.id)
    return StillDocument(
        clip.path, place, history, EditLog(studio.home / "edits" / f"{clip.id}.jsonl")
    )


def _open_video(studio: Studio, clip: Clip, place: MaskPlace) -> MaskDocument:
    if find_spec(VIDEO) is None:
        raise NotEditable(f"{clip.name}: masks of videos cannot be painted here")
    document: MaskDocument = import_module(VIDEO).open_video(studio, clip, place)
    return document

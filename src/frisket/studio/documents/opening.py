"""A clip's id to its mask document."""

from frisket.maskgen.files.edits import EditLog
from frisket.studio.documents.base import MaskDocument
from frisket.studio.documents.finding import MaskPlace, find_mask
from frisket.studio.documents.history import History
from frisket.studio.documents.still import StillDocument
from frisket.studio.documents.video import open_video
from frisket.studio.state import Studio
from frisket.studio.workspace import WorkspaceClip


def open_document(studio: Studio, clip_id: str) -> MaskDocument:
    """The document of a clip; UnknownId, and what `find_mask` raises."""
    clip = studio.workspace.get_clip(clip_id)
    place = find_mask(clip, studio.workspace.get_set(clip.set_id))
    if clip.video or clip.path.is_dir():
        return open_video(studio, clip, place)
    return open_still(studio, clip, place)


def open_still(studio: Studio, clip: WorkspaceClip, place: MaskPlace) -> StillDocument:
    """The document of a picture, or of a still mask that stands for all frames of a video."""
    history = History(studio.home / "history" / clip.id)
    return StillDocument(
        clip.path, place, history, EditLog(studio.home / "edits" / f"{clip.id}.jsonl")
    )

"""The painted frames of a clip written into its mask file."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi.concurrency import run_in_threadpool

from frisket.disk.atomic import replacing
from frisket.maskgen.files.by_hand import note_frames
from frisket.maskgen.files.drafts import DraftNote
from frisket.maskgen.files.label_maps import read_legend
from frisket.media.paths import frames_in
from frisket.studio.documents.finding import find_mask
from frisket.studio.documents.forms import LabelForm
from frisket.studio.documents.installing import install_files, list_keys, locate_new
from frisket.studio.documents.opening import open_document
from frisket.studio.documents.reels import SavedFrames, stamp_files
from frisket.studio.documents.video import REELS, VideoDocument
from frisket.studio.state import Studio
from frisket.studio.workspace import UnknownId


class NoVideo(ValueError):
    """A clip that is one picture, where frames were asked for."""


def open_reel(studio: Studio, clip_id: str) -> VideoDocument:
    """The document of a video, in a thread of the server's; NoVideo for a picture."""
    document = open_document(studio, clip_id)
    if not isinstance(document, VideoDocument):
        raise NoVideo("this clip is one picture: it has no frames to carry a mask to")
    return document


@dataclass(frozen=True, slots=True)
class _Collected:
    """What goes into the file, as it was when it was looked at."""

    document: VideoDocument
    notes: Mapping[int, DraftNote]
    legend: Mapping[str, int]


async def write_drafts(studio: Studio) -> None:
    """Write the painted frames of every clip into its mask: what starts next reads the files."""
    for clip_id in await run_in_threadpool(_list_waiting, studio):
        await write_reel(studio, clip_id)


def _list_waiting(studio: Studio) -> list[str]:
    folder = studio.home / REELS
    waiting = []
    for place in sorted(folder.iterdir()) if folder.is_dir() else ():
        try:
            document = open_document(studio, place.name)
        except UnknownId:  # of a clip that has gone: its frames are kept, and nobody waits for them
            continue
        if isinstance(document, VideoDocument) and document.reel.drafts.list_notes():
            waiting.append(place.name)
    return waiting


async def write_reel(studio: Studio, clip_id: str) -> dict[str, Any]:
    """Write a clip's mask whole; a mask of folders frame by frame. Drafts that are in it go.

    A frame that is painted meanwhile stays a draft. A crash leaves the old file or the new one, and
    every draft that is not in it.
    """
    collected = await run_in_threadpool(_collect, studio, clip_id)
    document = collected.document
    if not collected.notes and not document.still:
        return {"written": 0, "stamp": document.stamp}
    if any(path.is_dir() for path in document.place.files.values()):
        shares = await run_in_threadpool(_write_folder, collected)
    else:
        args = {
            "footage": _narrow(collected),
            "targets": {key: str(path) for key, path in _locate_new(document).items()},
            "drafts": {
                str(frame): str(document.reel.drafts.locate(frame)) for frame in collected.notes
            },
            "comment": json.dumps(dict(collected.legend)) if collected.legend else "",
        }
        reply = await studio.serve.call("footage.write", args, lane="model")
        shares = {int(number): row for number, row in reply.value["shares"].items()}
    result = await run_in_threadpool(_finish, studio, clip_id, collected, shares)
    studio.events.publish("clips", {"set": document.clip.set_id, "clip": clip_id})
    return result


def _locate_new(document: VideoDocument) -> dict[str, Path]:
    return locate_new(document.reel, document.place)


def _narrow(collected: _Collected) -> dict[str, Any]:
    """The mask by the files it has or gets: a region that is nowhere gets no empty video."""
    document = collected.document
    footage = document.describe_footage()
    painted = {key for note in collected.notes.values() for key in note.keys}
    keys = footage["code"]["keys"].items()
    kept_keys = {
        key: number for key, number in keys if key in painted or key in document.place.files
    }
    footage["code"]["keys"] = kept_keys
    return footage


def _collect(studio: Studio, clip_id: str) -> _Collected:
    document = open_reel(studio, clip_id)
    document.describe_footage()  # MaskNotEditable is said before a child is asked
    document.reel.folder.mkdir(parents=True, exist_ok=True)
    form = document.place.form
    legend: dict[str, int] = {}
    if isinstance(form, LabelForm):
        legend = {region.name: region.id for region in form.regions if region.id}
        if form.legend_file is not None:
            legend = read_legend(form.legend_file) or legend
    return _Collected(document, document.reel.drafts.list_notes(), legend)


def _write_folder(collected: _Collected) -> dict[int, list[float]]:
    """Put drafts in the place of the frames of a folder: what a still is written as."""
    document = collected.document
    strange_keys = {key for note in collected.notes.values() for key in note.keys}
    if strange_keys := strange_keys - {*document.place.files}:
        raise ValueError(
            f"the masks of {', '.join(sorted(strange_keys))} have no folder of frames beside the"
            " others; make one with a PNG for every frame"
        )
    for key, folder in document.place.files.items():
        paths = frames_in(folder)
        for frame in collected.notes:
            draft = document.reel.drafts.load(frame)
            if draft is None or key not in draft.pictures or frame >= len(paths):
                continue
            if paths[frame].suffix.lower() != ".png":
                raise ValueError(
                    f"{paths[frame]}: a painted frame is written as .png; save the masks of the"
                    " folder as PNG"
                )
            with replacing(paths[frame]) as path:
                path.write_bytes(draft.pictures[key])
    return {}


def _finish(
    studio: Studio, clip_id: str, collected: _Collected, shares: dict[int, list[float]]
) -> dict[str, Any]:
    document, reel = collected.document, collected.document.reel
    with reel.lock:
        saved = reel.load_saved()
        before = document.stamp
        base = saved.base if saved.stamp == before else before
        if any(path.is_file() for path in _locate_new(document).values()):
            reel.save(saved.model_copy(update={"installing": len(list_keys(document.place))}))
            install_files(studio.home, clip_id, document.place, reel)
        place = find_mask(document.clip, studio.workspace.get_set(document.clip.set_id))
        stamp = stamp_files({key: path for key, path in place.files.items() if path.exists()})
        noted_frames = _note(collected, saved, base, stamp, shares, same_file=saved.stamp == before)
        reel.save(noted_frames)
        for frame, note in collected.notes.items():
            reel.drafts.drop(frame, note.number)
    if document.place.store is not None:
        size = document.size.frames, document.size.height, document.size.width
        note_frames(
            document.place.store.record(document.place.name),
            document.clip.path,
            size,
            painted=noted_frames.painted,
            tracked=noted_frames.tracked,
            legend=collected.legend,
        )
    return {"written": len(collected.notes), "stamp": stamp}


def _note(
    collected: _Collected,
    saved: SavedFrames,
    base: str,
    stamp: str,
    shares: dict[int, list[float]],
    *,
    same_file: bool,
) -> SavedFrames:
    """The note on the new file: revisions of its frames stay as the page knows them."""
    reel, notes = collected.document.reel, collected.notes
    revisions = dict(saved.revisions) if same_file else {}
    revisions |= {frame: reel.name_revision(frame, notes, saved, "") for frame in notes}
    tracked = {
        frame: confidence for frame, confidence in saved.tracked.items() if frame not in notes
    }
    tracked |= {
        frame: note.confidence
        for frame, note in notes.items()
        if note.maker == "tracked" and note.confidence is not None
    }
    blended = ({*saved.blended} - {*notes}) | {
        frame for frame, note in notes.items() if note.maker == "blended"
    }
    return SavedFrames(
        base=base,
        stamp=stamp,
        revisions=revisions,
        painted=sorted(reel.list_painted(saved, notes)),
        tracked=tracked,
        blended=sorted(blended),
        shares=shares,
    )

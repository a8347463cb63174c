"""What is meant by clicks, a box or words: proposals, for somebody to accept."""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frisket.maskgen.base import Box
from frisket.media.frames import decode
from frisket.recipes.masks.propose import Proposal, Proposer, SegmentPrompt, name_backend
from frisket.recipes.serve.session import Answer, Session
from frisket.shapes import Frames


@dataclass(slots=True)
class LoadedProposer:
    """The models of this process; another device or folder lets go of them."""

    key: tuple[Any, ...] = ()
    proposer: Proposer | None = None

    def get(self, folders: Mapping[str, str], device: str) -> Proposer:
        """The one of these folders and this device."""
        key = (tuple(sorted(folders.items())), device)
        if self.proposer is None or self.key != key:
            if self.proposer is not None:
                self.proposer.close()
            self.proposer, self.key = Proposer(folders, device), key
        return self.proposer


LOADED = LoadedProposer()


def segment_points(session: Session, args: dict[str, Any]) -> Answer:
    """Candidates for clicks and a box.

    Args: clip, frame; points [[x, y, inside], ...] and box [left, top, right, bottom] in pixels;
    folders (backend to weights), models (folders whose backend is looked up), backend, device. The
    body is the candidates, each H W of 0 and 1, deflated; `lengths` says how long each is.
    """
    proposer = _get_proposer(args)
    prompt = SegmentPrompt(
        tuple((float(x), float(y), bool(inside)) for x, y, inside in args.get("points") or []),
        _read_box(args.get("box")),
    )
    backend = proposer.choose_pointer(str(args.get("backend") or "auto"))
    picture = _read_picture(session, args)
    session.report_progress("looking at the picture", 0, 1)
    key = ("embedding", backend, LOADED.key, *_stamp(args))

    def encode() -> tuple[Any, int]:
        embedding = proposer.encode(picture, backend)
        return embedding, int(embedding.bytes)

    embedding = session.cache.get(key, encode)
    session.check()
    return _pack(proposer.point(picture, prompt, backend, embedding))


def segment_text(session: Session, args: dict[str, Any]) -> Answer:
    """Candidates for words, `text`; the rest as `segment_points`."""
    proposer = _get_proposer(args)
    backend = proposer.choose_text(str(args.get("backend") or "auto"))
    picture = _read_picture(session, args)
    session.report_progress(f"looking for {str(args['text'])[:80]}", 0, 1)
    return _pack(proposer.ground(picture, SegmentPrompt(text=str(args["text"])), backend))


def list_backends(_session: Session, args: dict[str, Any]) -> Answer:
    """Which backend is clicked and which reads words here; why none does, where none does."""
    proposer = _get_proposer(args)
    value: dict[str, Any] = {"points": proposer.choose_pointer(), "device": proposer.device}
    try:
        value["text"] = proposer.choose_text()
    except ValueError as error:
        value |= {"text": None, "text_missing": str(error)}
    return Answer(value)


def _get_proposer(args: dict[str, Any]) -> Proposer:
    folders = {str(name): str(path) for name, path in (args.get("folders") or {}).items()}
    for folder in args.get("models") or []:
        folders.setdefault(name_backend(Path(folder)), str(folder))
    return LOADED.get(folders, str(args.get("device") or "auto"))


def _read_box(edges: Any) -> Box | None:
    if edges is None:
        return None
    left, top, right, bottom = (float(edge) for edge in edges)
    return Box(left, top, right, bottom)


def _read_picture(session: Session, args: dict[str, Any]) -> Frames:
    def read() -> tuple[Frames, int]:
        picture = decode(Path(args["clip"]), (int(args.get("frame", 0)),))
        return picture, picture.numel()

    picture: Frames = session.cache.get(("picture", *_stamp(args)), read)
    return picture


def _stamp(args: dict[str, Any]) -> tuple[Any, ...]:
    stat = Path(args["clip"]).stat()
    return args["clip"], stat.st_mtime_ns, stat.st_size, int(args.get("frame", 0))


def _pack(proposal: Proposal) -> Answer:
    parts = [
        zlib.compress(candidate.mask.numpy().tobytes(), 1) for candidate in proposal.candidates
    ]
    masks = [candidate.mask for candidate in proposal.candidates]
    value = {
        "backend": proposal.backend,
        "source": Path(proposal.source).name if proposal.source else "",
        "device": proposal.device,
        "scores": [candidate.score for candidate in proposal.candidates],
        "shares": [float(mask.float().mean()) for mask in masks],
        "lengths": [len(part) for part in parts],
        "size": [masks[0].shape[1], masks[0].shape[0]] if masks else None,
    }
    return Answer(value, b"".join(parts))


OPS = {
    "segment.points": segment_points,
    "segment.text": segment_text,
    "segment.list": list_backends,
}

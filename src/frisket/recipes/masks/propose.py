"""Clicks, a box or words to what they mean in one picture: candidates, from the best model here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from frisket.disk.untrusted import BadText, read_table
from frisket.maskgen.base import (
    BACKENDS,
    BackendRole,
    BackendUnusable,
    Box,
    ClickPoint,
    ModelSource,
    Segment,
)
from frisket.maskgen.cleanup.stages import merge_masks
from frisket.maskgen.pipeline import Models
from frisket.maskgen.vision.loading import find_cached
from frisket.recipes.masks.request import device_of
from frisket.registry import suggest
from frisket.shapes import Frames

DRAFT = "draft"  # the backend that needs no weights
CUT = 0.5  # probability from which a pixel belongs
MOST = 3  # candidates of one answer
POINTERS = ("sam3", "sam2")  # the best first; those of other packages come after
TEXTS = ("sam3", "clipseg", "grounding_dino", "florence2")
KINDS = {  # model_type of a folder's config.json to the backend that reads it
    "sam2": "sam2",
    "sam2_video": "sam2",
    "sam3": "sam3",
    "sam3_video": "sam3",
    "clipseg": "clipseg",
    "grounding-dino": "grounding_dino",
    "florence2": "florence2",
}


@dataclass(frozen=True, slots=True)
class SegmentPrompt:
    """What is asked of one picture; in pixels of it."""

    points: tuple[ClickPoint, ...] = ()
    box: Box | None = None
    text: str = ""

    def __post_init__(self) -> None:
        """Refuse a prompt that asks for nothing, or for two things at once."""
        if self.text and (self.points or self.box is not None):
            raise ValueError("give words, or clicks and a box; not both")
        if not self.text and self.box is None and not any(inside for *_, inside in self.points):
            raise ValueError("give a click inside the thing, a box around it, or words")


@dataclass(frozen=True, slots=True)
class Candidate:
    """One thing that may be meant: 1 where it is, and how sure the model is, in [0, 1]."""

    mask: UInt8[Tensor, "H W"]
    score: float | None


@dataclass(frozen=True, slots=True)
class Proposal:
    """The candidates for a prompt, the likeliest first, and who gave them."""

    backend: str
    source: str  # folder or hub id; empty where it has no weights
    device: str
    candidates: tuple[Candidate, ...] = field(default_factory=tuple)


def name_backend(folder: Path) -> str:
    """The backend that reads a model's folder, by its config.json; BackendUnusable for others."""
    try:
        kind = str(read_table(folder / "config.json").get("model_type"))
    except (BadText, OSError) as error:
        raise BackendUnusable(f"{folder}: no model lies there ({error})") from error
    if kind not in KINDS:
        raise BackendUnusable(
            f"{folder} holds a model of type {kind}; clicks and words take {', '.join(KINDS)}"
        )
    return KINDS[kind]


class Proposer:
    """The models that answer prompts, each loaded when first needed and held until `close`."""

    def __init__(self, folders: Mapping[str, str] | None = None, device: str = "auto") -> None:
        """`folders`: backend to its weights; others are taken where the hub's cache has them.

        Nothing is ever downloaded. UnknownPlugin for a backend that is not there.
        """
        self.device = device_of(device)
        dtype = torch.bfloat16 if self.device.startswith("cuda") else torch.float32
        self.folders = dict(folders or {})
        for name in self.folders:
            BACKENDS.load(name)
        default = ModelSource(device=self.device, dtype=dtype)
        sources = {
            name: ModelSource(path=path, device=self.device, dtype=dtype)
            for name, path in self.folders.items()
        }
        self.models = Models(sources, default)

    def choose_pointer(self, name: str = "auto") -> str:
        """The backend that is clicked: the one named, the best that is here, or the draft."""
        return self._choose(name, "pointer", POINTERS) or DRAFT

    def choose_text(self, name: str = "auto") -> str:
        """The backend that reads words; BackendUnusable names the folders that would do."""
        backend = self._choose(name, "grounder", TEXTS) or self._choose(name, "detector", TEXTS)
        if not backend:
            raise BackendUnusable(
                "no model here finds words in a picture; give the folder of one of"
                f' {", ".join(self._list(TEXTS))}: [maskgen.sources] clipseg = "FOLDER" in the'
                " config, --source clipseg=FOLDER, or in the studio's settings"
            )
        return backend

    def _choose(self, wanted_name: str, role: BackendRole, order: Sequence[str]) -> str:
        names = [name for name in BACKENDS.names() if role in BACKENDS.load(name).roles]
        if wanted_name != "auto":
            if role == "pointer" and wanted_name not in names:
                hint = suggest(wanted_name, names)
                raise BackendUnusable(f"--backend {wanted_name}: takes no clicks{hint}")
            return wanted_name if wanted_name in names else ""
        ranking = [name for name in (*order, *sorted(self.folders)) if name in names]
        for name in ranking:
            if name in self.folders:
                return name
        return next((name for name in ranking if self._find_cached(name)), "")

    def _find_cached(self, name: str) -> bool:
        """Whether the hub's cache has it; then it is loaded from there."""
        repo = BACKENDS.load(name).repo
        folder = find_cached(repo) if repo else None
        return folder is not None

    def _list(self, names: Sequence[str]) -> list[str]:
        return [name for name in names if name in BACKENDS.names()]

    def encode(self, picture: Frames, backend: str) -> Any:
        """What a pointer works out once for a picture, `1 H W 3`; it has `bytes`."""
        return self.models.get(backend).encode_picture(picture[0])

    def point(
        self, picture: Frames, prompt: SegmentPrompt, backend: str, embedding: Any
    ) -> Proposal:
        """Candidates for clicks and a box on a picture, `1 H W 3`."""
        high, wide = picture.shape[1:3]
        box = None if prompt.box is None else prompt.box.within(high, wide)
        _check_points(prompt, high, wide)
        segments = self.models.get(backend).segment_points(
            embedding, picture[0], list(prompt.points), box
        )
        return self._propose(backend, segments)

    def ground(self, picture: Frames, prompt: SegmentPrompt, backend: str) -> Proposal:
        """Candidates for words: all that was found together, then each by itself."""
        phrases = [part.strip() for part in prompt.text.split(",") if part.strip()]
        model = self.models.get(backend)
        if "grounder" in BACKENDS.load(backend).roles:
            segments = model.ground([picture[0]], [phrases])[0]
        else:
            boxes = model.detect([picture[0]], [phrases])[0]
            pointer = self.choose_pointer()
            embedding = self.encode(picture, pointer)
            segmenter = self.models.get(pointer)
            segments = [
                segment
                for box in boxes
                for segment in segmenter.segment_points(embedding, picture[0], [], box)[:1]
            ]
        segments = sorted(segments, key=lambda segment: -(segment.score or 0.0))
        if len(segments) > 1:
            masks = [segment.mask for segment in segments]
            high, wide = picture.shape[1:3]
            scores = [segment.score for segment in segments if segment.score is not None]
            union = Segment(merge_masks(masks, high, wide), min(scores, default=None))
            segments = [union, *segments]
        return self._propose(backend, segments)

    def _propose(self, backend: str, segments: Sequence[Segment]) -> Proposal:
        candidates = [
            Candidate((segment.mask >= CUT).to(torch.uint8), segment.score) for segment in segments
        ]
        filled = tuple(candidate for candidate in candidates if candidate.mask.any())[:MOST]
        source = self.folders.get(backend, BACKENDS.load(backend).repo)
        return Proposal(backend, source, self.device, filled)

    def close(self) -> None:
        """Let go of every model, on the device too."""
        self.models.close()


def _check_points(prompt: SegmentPrompt, high: int, wide: int) -> None:
    for x, y, _ in prompt.points:
        if not (0 <= x < wide and 0 <= y < high):
            raise ValueError(f"{x:g},{y:g} lies outside the picture of {wide} x {high} pixels")

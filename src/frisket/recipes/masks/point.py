"""`frisket masks point`: what clicks, a box or words mean, laid into a clip's label map."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from frisket.config.maskgen import PointRequest
from frisket.maskgen.base import Box, LabelMap
from frisket.maskgen.files.store import MaskStore, extend_legend, read_legend, write_labels
from frisket.media.frames import BadMedia, decode, decode_index, probe
from frisket.recipes.masks.make import place_of
from frisket.recipes.masks.propose import Candidate, Proposer, SegmentPrompt


class NothingMeant(ValueError):
    """A prompt that no candidate was found for; says what else to try."""


@dataclass(frozen=True, slots=True)
class PointedMask:
    """What was written, and by whom it was proposed."""

    path: Path
    backend: str
    score: float | None
    share: float  # of the picture that the region has now, in [0, 1]


def point_mask(request: PointRequest) -> PointedMask:
    """Lay what is meant into a region of the clip's label map, and write it.

    The mask counts as somebody's own word from here on: `frisket masks` leaves it alone. Raises
    before anything is written: BadMedia for a video, for a mask that is no label map, for a size
    that differs; BackendUnusable; NothingMeant.
    """
    media = probe(request.clip)
    if media.video:
        raise BadMedia(
            f"{request.clip}: is a video; paint a frame in the studio and let it be tracked"
        )
    folder = request.clips or request.clip.parent
    clips, place = place_of(folder, request.output, beside=request.beside)
    if not request.clip.resolve().is_relative_to(clips.resolve()):
        raise BadMedia(f"{request.clip}: lies outside {clips}; name its clip folder by --clips")
    path_below = request.clip.resolve().relative_to(clips.resolve())
    name = path_below.with_suffix("").as_posix() if path_below.suffix else path_below.as_posix()
    labels = _read_labels(request, place, name, (media.height, media.width))
    backend, candidate = _propose(request)
    legend = extend_legend(place.legend, [request.region])
    labels = lay_region(labels, candidate.mask, legend[request.region], request.mode)
    path = place.labels(name, video=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_labels(path, labels, legend)
    share = float((labels == legend[request.region]).float().mean())
    return PointedMask(path, backend, candidate.score, share)


def lay_region(labels: LabelMap, mask: Tensor, index: int, mode: str) -> LabelMap:
    """A mask H W of 0 and 1 laid into a region: added, taken away, or in place of what it was."""
    inside, changed = mask > 0, labels.clone()
    if mode == "replace":
        changed[labels == index] = 0
    if mode == "subtract":
        changed[inside & (labels == index)] = 0
    else:
        changed[inside] = index
    return changed


def _propose(request: PointRequest) -> tuple[str, Candidate]:
    prompt = SegmentPrompt(
        tuple(
            (x, y, inside)
            for texts, inside in ((request.at, True), (request.outside, False))
            for x, y in map(_read_point, texts)
        ),
        _read_box(request.box),
        request.text,
    )
    proposer = Proposer(request.sources, request.device)
    picture = decode(request.clip, (0,))
    try:
        if prompt.text:
            proposal = proposer.ground(picture, prompt, proposer.choose_text(request.backend))
        else:
            backend = proposer.choose_pointer(request.backend)
            embedding = proposer.encode(picture, backend)
            proposal = proposer.point(picture, prompt, backend, embedding)
    finally:
        proposer.close()
    if request.candidate > len(proposal.candidates):
        count = len(proposal.candidates)
        raise NothingMeant(
            f"--candidate {request.candidate}: {proposal.backend} proposes {count}; click"
            " elsewhere, draw a box, or name it in other words"
        )
    return proposal.backend, proposal.candidates[request.candidate - 1]


def _read_point(text: str) -> tuple[float, float]:
    try:
        x, y = (float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"{text!r}: write x,y in pixels, such as 120,80") from None
    return x, y


def _read_box(text: str) -> Box | None:
    if not text:
        return None
    try:
        left, top, right, bottom = (float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(
            f"--box {text!r}: write left,top,right,bottom in pixels, such as 20,10,200,180"
        ) from None
    return Box(left, top, right, bottom)


def _read_labels(
    request: PointRequest, place: MaskStore, name: str, size: tuple[int, int]
) -> LabelMap:
    """The label map that is there, or a blank one."""
    present = place.present(name, request.clip)
    if not present:
        return torch.zeros(size, dtype=torch.uint8)
    path = next(iter(present.values()))
    legend = read_legend(place.legend)
    if path != place.labels(name, video=False) or not legend:
        raise BadMedia(
            f"{path}: is no label map with a legend.json beside it; paint it in the studio, or give"
            " another mask folder by --output"
        )
    labels = decode_index(path, [0])[0]
    if tuple(labels.shape) != size:
        raise BadMedia(
            f"{path} is {labels.shape[1]} x {labels.shape[0]}, its clip {size[1]} x {size[0]}"
            " (width x height); make the mask again at the clip's size"
        )
    return labels.to(torch.uint8)

"""Finds the procedural people, its weights in the package: for tests and measurements offline."""

from functools import lru_cache
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from frisket.faces.base import FaceModelUnusable
from frisket.faces.detect import DetectedFace, DetectorPlugin, FaceBox, FaceFrame
from frisket.faces.drawn import CELLS, DRAWN_SIDE, DrawnFaceNetworks, pick_peaks
from frisket.licence import Licence

WEIGHTS = Path(__file__).parents[1] / "drawn.safetensors"
SCORE, LOOKS = 0.4, 2
LICENCE = Licence(
    code="Apache-2.0 (Frisket's own)", weights="Apache-2.0 (trained on drawings of our own)"
)


class DrawnFaceDetector:
    """Two small networks (scripts/pretrain_detector.py); they know drawings and nobody else.

    Points are looked at twice more, each time in the face laid by the last ones. On 400 unseen
    pictures it finds every face and no other; points are off by 0.018 halves of a head's height on
    average, below 0.041 for 95 % of the faces (the script's --verify).
    """

    name = "drawn"
    licence = LICENCE

    def __init__(self, network: DrawnFaceNetworks) -> None:
        self.network = network

    @torch.no_grad()
    def detect(self, frame: FaceFrame) -> list[DetectedFace]:
        """Faces whose middles lie 8 pixels or more apart, in 64 of the longer side."""
        height, width = frame.shape[:2]
        factor = max(height, width) / DRAWN_SIDE
        weight = next(self.network.parameters())
        picture = frame.permute(2, 0, 1)[None].to(weight) / 127.5 - 1
        scores, halves, spots = self.network.finder(fit_square(picture))
        faces = []
        for _, y, x in pick_peaks(scores, SCORE):
            cells = (0, _surround(y), _surround(x))
            weights = scores[cells].sigmoid()  # neighbours of the peak vote, surer ones more
            shares = weights / weights.sum()
            half = torch.einsum("yx,yxc->c", shares, halves[cells])
            places = torch.einsum("yx,yxpc->pc", shares, spots[cells])
            # Pixels are counted by their middles, and scaling is about their corners.
            middle, *points = ((places + 0.5) * factor - 0.5).float().cpu().unbind()
            left, top = (middle - half.cpu() * factor).tolist()
            right, bottom = (middle + half.cpu() * factor).tolist()
            score = float(scores[0, y, x].sigmoid())
            keypoints = torch.stack(points)[None]
            for _ in range(LOOKS):
                keypoints = self.network.refine(picture, keypoints)
            box = FaceBox(left, top, right, bottom)
            faces.append(DetectedFace(box, keypoints[0], score))
        return faces


def _surround(cell: int) -> slice:
    return slice(max(cell - 1, 0), min(cell + 2, CELLS))


def fit_square(picture: Tensor) -> Tensor:
    """1 3 64 64: the picture (1 3 H W in [-1, 1]) at the top left, grey beside it."""
    height, width = picture.shape[-2:]
    share = DRAWN_SIDE / max(height, width)
    size = max(round(height * share), 1), max(round(width * share), 1)
    mode = "area" if share <= 1 else "bilinear"
    small = functional.interpolate(picture, size, mode=mode)
    return functional.pad(small, (0, DRAWN_SIDE - size[1], 0, DRAWN_SIDE - size[0]))


@lru_cache(maxsize=1)
def _read_weights() -> dict[str, Tensor]:
    return {key: value.float() for key, value in load_file(WEIGHTS).items()}


def load(source: str, device: str) -> DrawnFaceDetector:
    """The package's own weights; it takes no others."""
    if source:
        raise FaceModelUnusable(
            f"the detector drawn brings its own weights and reads none from {source}: leave the"
            " source out, or take yunet for photographs"
        )
    network = DrawnFaceNetworks().eval().requires_grad_(False)
    network.load_state_dict(_read_weights())
    return DrawnFaceDetector(network.to(device))


DETECTOR = DetectorPlugin(
    summary="drawn people only (weights in the package): for tests and measurements offline",
    licence=LICENCE,
    load=load,
    commercial=True,
)

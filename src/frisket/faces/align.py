"""Faces laid on the template their networks were trained on, differentiably."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from frisket.faces.base import SIDE

Keypoints = Float[Tensor, "b 5 2"]  # (x, y) in pixels: eyes, nose, corners of the mouth; left first
Similarities = Float[Tensor, "b 2 3"]  # picture to aligned: x' = A x + t, in pixels

# Where the five points lie in the 112 x 112 picture that networks of the ArcFace kind read
# (insightface, MIT; the numbers are the format).
TEMPLATE: Sequence[tuple[float, float]] = (
    (38.2946, 51.6963),
    (73.5318, 51.5014),
    (56.0252, 71.7366),
    (41.5493, 92.3655),
    (70.7299, 92.2041),
)


def fit_similarity(keypoints: Keypoints, side: int = SIDE) -> Similarities:
    """The turn, scale and move that bring five points nearest the template, by least squares.

    That is Umeyama's (1991) without mirroring; in the plane it has a closed form: with centred
    points z and targets w as complex numbers, the factor is sum(conj(z) w) / sum |z|^2. Worked out
    in float64; gradients flow to the points. `side` scales the template (a multiple of 112 as
    insightface has it). ValueError where points are not finite or all five coincide.
    """
    points = keypoints.double()
    target = torch.tensor(TEMPLATE, dtype=points.dtype, device=points.device) * (side / SIDE)
    middle, target_middle = points.mean(1, keepdim=True), target.mean(0, keepdim=True)
    centred, aimed = points - middle, target - target_middle
    spread = centred.square().sum((1, 2))
    if not bool((spread > 1e-12).all()):  # nan is not above either
        raise ValueError(
            f"key points {keypoints.tolist()} are not five places: some face has them all at one"
            " point, or not finite; detect the face again or leave it out"
        )
    real = (centred * aimed).sum((1, 2)) / spread
    imaginary = (centred[..., 0] * aimed[:, 1] - centred[..., 1] * aimed[:, 0]).sum(1) / spread
    turn = torch.stack([real, -imaginary, imaginary, real], 1).view(-1, 2, 2)
    move = target_middle - middle @ turn.mT
    return torch.cat([turn, move.mT], 2).to(keypoints.dtype)


def warp_faces(
    pictures: Float[Tensor, "b 3 _ _"], similarities: Similarities, side: int = SIDE
) -> Float[Tensor, "b 3 _ _"]:
    """Pictures in [-1, 1] seen through their similarities, `side` pixels square, bilinearly.

    As insightface's norm_crop but for its rounding (cv2 interpolates in steps of 1/32 pixel):
    pixels are sampled at points, whatever the scale, and what lies outside the picture is black.
    Gradients flow to the pixels. The answer is float32.
    """
    height, width = pictures.shape[-2:]
    line = torch.arange(side, dtype=torch.float64, device=pictures.device)
    y, x = torch.meshgrid(line, line, indexing="ij")
    places = torch.stack([x, y], -1).view(1, -1, 2)
    matrices = similarities.to(pictures.device, torch.float64)
    turn, move = matrices[..., :2], matrices[..., 2]
    sources = torch.linalg.solve(turn, (places - move[:, None]).mT).mT  # b side*side 2, pixels
    size = torch.tensor([width, height], dtype=torch.float64, device=pictures.device)
    grid = ((2 * sources + 1) / size - 1).view(-1, side, side, 2).float()
    lifted = pictures.float() + 1  # so that the zeros grid_sample pads with are black
    return functional.grid_sample(lifted, grid, padding_mode="zeros", align_corners=False) - 1


def align_faces(
    pictures: Float[Tensor, "b 3 _ _"], keypoints: Keypoints
) -> Float[Tensor, "b 3 112 112"]:
    """One face a picture (in [-1, 1]) on the template, ready for an Embedder."""
    return warp_faces(pictures, fit_similarity(keypoints))

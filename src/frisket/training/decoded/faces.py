"""The faces of a training step, for the terms that need them: whose they are, the comparison."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from frisket.data.sample import Batch
from frisket.losses.decoding import Decode
from frisket.losses.faces import FaceComparison, FaceMark
from frisket.objectives.base import Objective
from frisket.shapes import FramePicture, PerSample

VISIBLE_SHARE = "faces/shown"  # of the samples, those that show a face
DISTANCE = "faces/distance"  # the mean over the faces that were compared


@dataclass(frozen=True, slots=True)
class FaceWatch:
    """What a run hands its trainer: frozen models, and whose mask a face lies in.

    `region` is a plane of the coverage. `decode` turns latents b c f h w into pixels and `compare`
    a picture with a face into its cosine distance to a mark's target; both are differentiable.
    """

    region: int
    decode: Decode
    compare: Callable[[FramePicture, FaceMark], Tensor]

    def describe(self, _objective: Objective, batch: Batch, _t: PerSample) -> dict[str, Any]:
        """What a `Step` says of faces, by its names; every distance is noted as it is measured."""
        distances: list[Tensor] = []
        return {
            "faces": FaceComparison(
                marks=batch.faces or ((),) * len(batch),
                region=self.region,
                compare=partial(self._measure, distances),
                distances=distances,
            ),
        }

    def _measure(self, distances: list[Tensor], picture: FramePicture, mark: FaceMark) -> Tensor:
        distance = self.compare(picture, mark)
        distances.append(distance.detach())
        return distance


def sum_faces(faces: FaceComparison, device: torch.device) -> tuple[dict[str, Tensor], Tensor]:
    """Sums over a step's samples: how many show a face, and the distances; how many those are."""
    clip_count = torch.tensor(float(sum(map(bool, faces.marks))), device=device)
    distances = [distance.to(device).float() for distance in faces.distances]
    total = torch.stack(distances).sum() if distances else torch.zeros((), device=device)
    count = torch.tensor(float(len(distances)), device=device)
    return {VISIBLE_SHARE: clip_count, DISTANCE: total}, count

"""Inside the face's region, look like the person: the picture a prediction stands for, compared."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from frisket.losses.base import DECODED, FACES, Step
from frisket.losses.decoding import cut_window
from frisket.losses.faces import FaceComparison, FaceRequest
from frisket.shapes import CellShares, PerSample, Weights


@dataclass(frozen=True, slots=True)
class IdentityLoss:
    """1 - cos(E(align(D(x_0))), e) of each sample whose noise level is at most `t_max`.

    x_0 is the step's estimate inside the region and the clean latents, without gradient, around it;
    D the VAE's decoder, E a frozen face embedder, e the person's embedding and the five points of
    the alignment those of the clean clip, so that no detector is in the loop. An ID loss on the
    decoded picture, as PuLID's (arXiv:2404.16022), taken at one step and gated by noise as the
    reward of ControlNet++ is (arXiv:2404.07987), with two departures: every clip counts in the mean
    (there those below the gate alone), and the estimate counts inside the region alone.

    t_max: at high noise the estimate is a blur, of which an embedder only says that it is nobody.
        0.35 of a flow is the noise of ControlNet++'s t <= 200 of 1000; of Stable Diffusion's levels
        (t = 0.35 is level 350) it lets more in, 0.2 is the same.
    region: whose cells it teaches, and whose face: of several the one that lies in it.
    frames: latent frames of a video that a step looks at, drawn anew each time; each is decoded
        behind at most two before it, which get no gradient.
    embedder, embedder_source: of the shelf of face embedders; the source is its file.
    references: a folder of pictures of the person; else every clip is compared with itself.
    detector, detector_source: what finds the faces of clips without key points beside them.

    A sample without a face that counts, or above `t_max`, is 0 and nothing of it is decoded.
    """

    t_max: float = 0.35
    region: str = "face"
    frames: int = 1
    embedder: str = "iresnet"
    embedder_source: str = ""
    references: str = ""
    detector: str = ""
    detector_source: str = ""
    needs: ClassVar[frozenset[str]] = frozenset({DECODED, FACES})

    def __post_init__(self) -> None:
        """Refuse options that have no meaning."""
        if not 0 < self.t_max <= 1:
            raise ValueError(f"identity: t_max must lie in (0, 1], got {self.t_max}")
        if self.frames < 1:
            raise ValueError(f"identity: frames must be 1 or more, got {self.frames}")
        for name in ("region", "embedder"):
            if not getattr(self, name):
                raise ValueError(f"identity: {name} is empty; name one, or leave it out")

    @property
    def faces(self) -> FaceRequest:
        """What is read of the clips before the run."""
        return FaceRequest(
            region=self.region,
            embedder=self.embedder,
            source=self.embedder_source,
            frames=self.frames,
            references=self.references,
            detector=self.detector,
            detector_source=self.detector_source,
        )

    def __call__(self, step: Step) -> PerSample:
        """The distance of each sample, float32, in [0, 2]; 0 where nothing is compared."""
        if step.faces is None or step.decode is None or step.estimate is None or step.clean is None:
            raise ValueError("identity: the step carries no faces, or nothing to decode them with")
        inside = find_inside(step, step.faces.region)
        distances = step.prediction.float().flatten(1)[:, :0].sum(1)  # 0, and part of the graph
        rows = [
            row
            for row, level in enumerate(step.t.tolist())
            if level <= self.t_max and step.faces.marks[row]
        ]
        compared = [self._compare(step, step.faces, row, inside[row]) for row in rows]
        if not compared:
            return distances
        places = torch.tensor(rows, device=distances.device)
        return distances.index_add(0, places, torch.stack(compared).to(distances.device))

    def _compare(self, step: Step, faces: FaceComparison, row: int, inside: CellShares) -> Tensor:
        """The mean distance of the marked faces of one sample that its region covers."""
        assert step.estimate is not None
        assert step.clean is not None
        assert step.decode is not None
        looked: list[Tensor] = []
        for mark in faces.marks[row]:
            if not bool((inside[:, mark.frame] > 0).any()):
                continue
            window = cut_window(step.estimate[row], step.clean[row], inside, mark.frame)
            picture = step.decode(window[None])[:, :, -1]
            looked.append(faces.compare(picture, mark))
        if not looked:
            return step.estimate[row].flatten()[:0].sum()
        return torch.stack(looked).mean()


def find_inside(step: Step, region: int) -> Weights:
    """How much of each cell the term teaches: the region's cover where the cell has any weight."""
    inside = step.coverage[:, region, None].float() * (step.weights > 0)
    return inside if step.predicted is None else inside * step.predicted


TERM = IdentityLoss

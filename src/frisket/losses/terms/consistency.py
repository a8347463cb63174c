"""At low noise, keep the structure of the clip: what the prediction looks like, extracted again."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from frisket.losses.base import CONTROL, DECODED, STRUCTURE, Step, weighted_mean
from frisket.losses.comparing import StructureComparison, StructureRequest
from frisket.losses.decoding import cut_window
from frisket.losses.outside import weigh_outside
from frisket.losses.structure import EXTRACTORS
from frisket.shapes import CellShares, Clip, Flags, PerSample, Structure, Weights

GATE = 0.3642  # s / (a + s) between levels 200 and 201 of Stable Diffusion's 1000: ControlNet++'s
# Extractors whose map of a picture brought to another size is that map brought to it.
SIZELESS = ("luma",)
MODELS = ("depth",)  # extractors that are a model, from a local folder
CHOICES = {
    "where": ("everywhere", "outside", "inside"),
    "target": ("clip", "control"),
    "kind": ("mse", "l1"),
    "average": ("shown", "all"),
}


@dataclass(frozen=True, slots=True)
class ConsistencyLoss:
    """mean w |E(D(x_0)) - c|^2 over the pixels of each sample of low noise (arXiv:2404.07987).

    x_0 is the step's estimate, D the VAE's decoder and E a differentiable extractor of structure.
    The reward of ControlNet++, with these departures: c is extracted from the decoded clean latents
    and not from the clip itself, so that the term is exactly 0 where the estimate is clean; cells
    without weight are clean to the decoder and get exactly no gradient; of a video one frame counts
    at a time. Pixels weigh what their cell does, and are divided by the weights' sum.

    t_max: highest noise level t that counts; 0 is ControlNet++'s 200 of 1000, found by its ratio of
        noise to signal under any objective: t = 0.364 of a flow, 0.201 of Stable Diffusion.
    where: "everywhere"; "outside" as much as cells are left out of the taught region; "inside".
    extractor: "edges" (Sobel), "canny" (theirs), "luma" (blurred), "colours" (blocks), or "depth",
        whose model is in the folder `source`.
    target: c is extracted from the "clip", or is the "control" picture itself ("luma" alone, whose
        map is the same at any size).
    kind: "mse" as theirs, or "l1".
    frames: latent frames of a video that a step looks at, drawn anew each time; each is decoded
        behind at most two before it, which get no gradient.
    average: over the samples below the gate whose frames have a weight ("shown": sum /
        (count + 1e-10), as theirs), or over "all" of the batch.

    A sample above the gate is 0, and nothing of it is decoded.
    """

    t_max: float = 0.0
    where: Literal["everywhere", "outside", "inside"] = "everywhere"
    extractor: str = "edges"
    source: str = ""
    target: Literal["clip", "control"] = "clip"
    kind: Literal["mse", "l1"] = "mse"
    frames: int = 1
    average: Literal["shown", "all"] = "shown"

    def __post_init__(self) -> None:
        """Refuse options that have no meaning."""
        if not 0 <= self.t_max <= 1:
            raise ValueError(f"consistency: t_max must lie in [0, 1], got {self.t_max}")
        if self.frames < 1:
            raise ValueError(f"consistency: frames must be 1 or more, got {self.frames}")
        for name, choices in CHOICES.items():
            if (value := getattr(self, name)) not in choices:
                listed = ", ".join(choices)
                raise ValueError(f"consistency: {name} {value!r} is not one of {listed}")
        self._check_extractor()

    def _check_extractor(self) -> None:
        choices = (*EXTRACTORS, *MODELS)
        if self.extractor not in choices:
            raise ValueError(
                f"consistency: extractor {self.extractor!r} is not one of {', '.join(choices)}"
            )
        if self.extractor in MODELS and not self.source:
            raise ValueError(
                f"consistency: extractor {self.extractor!r} is a model; set source to its folder"
            )
        if self.source and self.extractor not in MODELS:
            raise ValueError(
                f"consistency: extractor {self.extractor!r} has no weights; leave source out, got"
                f" {self.source!r}"
            )
        if self.target == "control" and self.extractor not in SIZELESS:
            raise ValueError(
                f"consistency: extractor {self.extractor!r} depends on the size a picture is looked"
                " at in, and a control picture is made at the clip's own and then brought to the"
                ' training size; set extractor = "luma", or target = "clip"'
            )

    @property
    def needs(self) -> frozenset[str]:
        """Decoded pictures and the frames to look at; control pictures where they are compared."""
        return frozenset({DECODED, STRUCTURE, *([CONTROL] if self.target == "control" else [])})

    @property
    def structure(self) -> StructureRequest:
        """What is looked at in a step."""
        return StructureRequest(
            extractor=self.extractor,
            source=self.source,
            frames=self.frames,
            target=self.target,
        )

    def __call__(self, step: Step) -> PerSample:
        """The error of each sample, float32, at least 0; 0 where nothing is compared."""
        comparison = step.structure
        if comparison is None or None in (step.decode, step.estimate, step.clean):
            raise ValueError("consistency: the step carries no structure, or no decoder to see it")
        errors = step.prediction.float().flatten(1)[:, :0].sum(1)  # 0, and part of the graph
        cells = self._weigh_cells(step)
        rows = [
            row
            for row in self._find_shown(step, comparison).nonzero()[:, 0].tolist()
            if bool(cells[row][:, list(comparison.frames[row])].any())
        ]
        if not rows:
            return errors
        compared = [self._compare(step, comparison, row, cells[row]) for row in rows]
        places = torch.tensor(rows, device=errors.device)
        errors = errors.index_add(0, places, torch.stack(compared).to(errors.device))
        if self.average == "all":
            return errors
        return errors * (len(errors) / (len(rows) + 1e-10))

    def _find_shown(self, step: Step, comparison: StructureComparison) -> Flags:
        """The samples below the gate."""
        return step.t <= self.t_max if self.t_max else comparison.noise <= GATE

    def _weigh_cells(self, step: Step) -> Weights:
        """How much each cell counts; 0 where nothing is predicted."""
        if self.where == "outside":
            return weigh_outside(step).clamp_min(0)
        weights = step.weights if self.where == "inside" else torch.ones_like(step.weights)
        return weights.float() if step.predicted is None else weights.float() * step.predicted

    def _compare(
        self, step: Step, comparison: StructureComparison, row: int, cells: CellShares
    ) -> Tensor:
        """The mean error of one sample over those frames to look at that have a weight."""
        assert step.estimate is not None
        assert step.clean is not None
        frames = [frame for frame in comparison.frames[row] if bool(cells[:, frame].any())]
        estimate, clean = step.estimate[row], step.clean[row].detach()
        taught_cells = (cells > 0).float()
        errors = []
        for frame in frames:
            window = cut_window(estimate, clean, taught_cells, frame)
            structure = comparison.extract(_show_last(step, window))
            with torch.no_grad():
                if self.target == "control":
                    target_map = _read_control(comparison, row, frame, structure)
                else:
                    context = cut_window(clean, clean, taught_cells, frame)
                    target_map = comparison.extract(_show_last(step, context))
            errors.append(self._measure(structure, target_map, cells[:, frame]))
        error = torch.stack(errors).mean()
        comparison.errors.append(error.detach())
        return error

    def _measure(self, structure: Structure, target_map: Structure, cells: Tensor) -> Tensor:
        """The weighted mean over pixels and planes; each pixel weighs what its cell does."""
        difference = structure - target_map
        error = difference.square() if self.kind == "mse" else difference.abs()
        pixels = functional.interpolate(cells[None], error.shape[3:], mode="nearest-exact")
        return weighted_mean(error, pixels[:, :, None].to(error.device))[0]


def _show_last(step: Step, window: Tensor) -> Clip:
    """The last pixel frame of a window of latents, in [0, 1]: 1 3 1 H W."""
    assert step.decode is not None
    return step.decode(window[None])[:, :, -1:].float().div(2).add(0.5).clamp(0, 1)


def _read_control(
    comparison: StructureComparison, row: int, frame: int, structure: Structure
) -> Structure:
    """A frame of a sample's control picture as a map of this many planes."""
    if comparison.controls is None:
        raise ValueError('consistency: target = "control", and the step carries no controls')
    control = comparison.controls[row, :, frame][None, :, None].float().to(structure.device)
    if control.shape[3:] != structure.shape[3:]:
        raise ValueError(
            f"consistency: a control picture of {tuple(control.shape[3:])} pixels beside a clip of"
            f" {tuple(structure.shape[3:])} (height, width)"
        )
    return control if structure.shape[1] == control.shape[1] else control.mean(1, keepdim=True)


TERM = ConsistencyLoss

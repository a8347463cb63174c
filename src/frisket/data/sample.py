"""What the trainer is handed: one prepared clip, and a batch of them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from frisket.losses.faces import MarkRow
from frisket.shapes import CellPlanes, Coverage, Flags, Latents, PerSample, RegionFlags


@dataclass(frozen=True, slots=True)
class Sample:
    """One clip as drawn for one step.

    `latents` is c f h w; `conditioning` keeps the batch axis of one that the family's `embed`
    gives; `coverage` is zeros where `masked` is False (the whole picture teaches). `prior_coverage`
    is there where the prior term reads the mask its own way. `phrases` are the positions on the
    text axis that the phrase of each region that has one takes, () where the caption lacks it.
    `region_flags` says of each region whether this draw teaches it; empty means all. `item` is its
    place among the prepared clips; -1, -2 and on of those held out. `faces` are those that a loss
    term looks at in this draw. `control` is its control picture at the training size, 3 F H W,
    0 to 255 (F may be 1 beside a longer clip, see `frames`), `control_latents` what a ControlNet
    reads of it through the VAE, c f h w. `frames` are those of the clip in pixels.
    """

    latents: Tensor
    conditioning: dict[str, Tensor]
    coverage: CellPlanes
    masked: bool
    weight: float
    name: str
    swapped: bool = False
    prior_coverage: CellPlanes | None = None
    phrases: tuple[tuple[int, ...], ...] = ()
    region_flags: tuple[bool, ...] = ()
    item: int = -1
    faces: MarkRow = ()
    control: Tensor | None = None
    control_latents: Tensor | None = None
    frames: int = 1


@dataclass(frozen=True, slots=True)
class Batch:
    """Clips of one latent shape; every tensor is batch first.

    `coverage` has one plane a configured region, in the configured order. `weight` is the data
    set's, and stays out of the mask's divisor. `swapped` says whose background was replaced.
    `phrases` and `region_flags` are those of the samples; empty where no sample has any. `items`
    are the places of the clips among those prepared, empty where nobody says. `faces` has a row a
    sample, or is empty where no sample has any. `control` is b 3 F H W in [0, 1], float32, cut as
    the clips are; `control_latents` b c f h w; None where the data have none.
    """

    latents: Latents
    conditioning: dict[str, Tensor]
    coverage: Coverage
    masked: Flags
    weight: PerSample
    names: tuple[str, ...]
    swapped: Flags
    prior_coverage: Coverage | None = None
    phrases: tuple[tuple[tuple[int, ...], ...], ...] = ()
    region_flags: RegionFlags | None = None
    items: tuple[int, ...] = ()
    faces: tuple[MarkRow, ...] = ()
    control: Tensor | None = None
    control_latents: Tensor | None = None

    def __len__(self) -> int:
        """How many clips it holds."""
        return len(self.names)

    @property
    def cells(self) -> tuple[int, int, int]:
        """Latent frames, rows and columns."""
        frames, height, width = self.latents.shape[2:]
        return frames, height, width

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> "Batch":
        """The batch on a device; `dtype` is for latents (of controls too) and conditioning only.

        Coverage and weight stay float32: what they weigh is summed in float32 in any model. So do
        the pixels of controls, which a loss term may compare with.
        """

        def move(tensor: Tensor) -> Tensor:
            return tensor.to(device, dtype if tensor.is_floating_point() else None)

        return replace(
            self,
            latents=move(self.latents),
            conditioning={name: move(tensor) for name, tensor in self.conditioning.items()},
            coverage=self.coverage.to(device),
            masked=self.masked.to(device),
            weight=self.weight.to(device),
            swapped=self.swapped.to(device),
            prior_coverage=None if self.prior_coverage is None else self.prior_coverage.to(device),
            region_flags=None if self.region_flags is None else self.region_flags.to(device),
            control=None if self.control is None else self.control.to(device),
            control_latents=None if self.control_latents is None else move(self.control_latents),
        )


def collate(samples: Sequence[Sample]) -> Batch:
    """Join samples of one latent shape.

    Text of different lengths is padded with zeros at the end of dim 1 (an attention mask the
    family gives is padded alike, so that the padding stays unseen). ValueError names the clips
    where latents or conditioning do not go together.
    """
    names = tuple(sample.name for sample in samples)
    _check_alike(samples)
    return Batch(
        latents=torch.stack([sample.latents for sample in samples]),
        conditioning={
            key: join(key, [sample.conditioning[key] for sample in samples], names)
            for key in samples[0].conditioning
        },
        coverage=torch.stack([sample.coverage for sample in samples]),
        masked=torch.tensor([sample.masked for sample in samples]),
        weight=torch.tensor([sample.weight for sample in samples], dtype=torch.float32),
        names=names,
        swapped=torch.tensor([sample.swapped for sample in samples]),
        prior_coverage=_prior_coverage(samples),
        phrases=tuple(sample.phrases for sample in samples) if samples[0].phrases else (),
        region_flags=_join_region_flags(samples),
        items=tuple(sample.item for sample in samples),
        faces=_join_faces(samples),
        control=join_controls(samples),
        control_latents=join_control_latents(samples),
    )


def _join_region_flags(samples: Sequence[Sample]) -> RegionFlags | None:
    if not any(sample.region_flags for sample in samples):
        return None
    regions = samples[0].coverage.shape[0]
    return torch.tensor([sample.region_flags or (True,) * regions for sample in samples])


def _join_faces(samples: Sequence[Sample]) -> tuple[MarkRow, ...]:
    rows = tuple(sample.faces for sample in samples)
    return rows if any(rows) else ()


def join_controls(samples: Sequence[Sample]) -> Float[Tensor, "b 3 F H W"] | None:
    """Control pictures in [0, 1], a still one repeated; None where no sample has any.

    ValueError names the clips that lack one beside others.
    """
    if not _check_controls(samples, [sample.control for sample in samples], "control picture"):
        return None
    rows = [
        sample.control.expand(-1, sample.frames, -1, -1)
        for sample in samples
        if sample.control is not None
    ]
    return torch.stack(rows).float().div_(255)


def join_control_latents(samples: Sequence[Sample]) -> Latents | None:
    """What a ControlNet reads of the controls; None where no sample has any. ValueError too."""
    rows = [sample.control_latents for sample in samples]
    if not _check_controls(samples, rows, "encoded control picture"):
        return None
    return torch.stack([row for row in rows if row is not None])


def _check_controls(samples: Sequence[Sample], rows: Sequence[Tensor | None], kind: str) -> bool:
    """Whether all have one (True) or none has; ValueError where some do."""
    lacking = [sample.name for sample, row in zip(samples, rows, strict=True) if row is None]
    if lacking and len(lacking) < len(samples):
        raise ValueError(f"clips without a {kind} beside others with one: {', '.join(lacking)}")
    return not lacking


def _check_alike(samples: Sequence[Sample]) -> None:
    names = ", ".join(sample.name for sample in samples)
    shapes = {tuple(sample.latents.shape) for sample in samples}
    if len(shapes) != 1:
        raise ValueError(f"clips of different latent shapes {sorted(shapes)} in one batch: {names}")
    keys = {frozenset(sample.conditioning) for sample in samples}
    if len(keys) != 1:
        raise ValueError(f"clips with different conditioning tensors in one batch: {names}")


def _prior_coverage(samples: Sequence[Sample]) -> Coverage | None:
    """Zeros for the samples without, if any has one; nothing is read where there is no mask."""
    planes = [sample.prior_coverage for sample in samples]
    if all(plane is None for plane in planes):
        return None
    return torch.stack(
        [
            torch.zeros_like(sample.coverage) if plane is None else plane
            for sample, plane in zip(samples, planes, strict=True)
        ]
    )


def join(key: str, tensors: Sequence[Tensor], names: Sequence[str]) -> Tensor:
    """One conditioning tensor of several samples (`names` are for the error), see `collate`."""
    shapes = {tuple(tensor.shape) for tensor in tensors}
    if len(shapes) == 1:
        return torch.cat(list(tensors))
    if len({(len(shape), *shape[2:]) for shape in shapes}) != 1:
        raise ValueError(
            f"conditioning {key!r} has shapes {sorted(shapes)} that cannot be padded along dim 1,"
            f" in the clips {', '.join(names)}"
        )
    longest = max(tensor.shape[1] for tensor in tensors)
    pad = (0, 0) * (tensors[0].ndim - 2)
    return torch.cat(
        [functional.pad(tensor, (*pad, 0, longest - tensor.shape[1])) for tensor in tensors]
    )

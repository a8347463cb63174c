"""The clips that runs are measured on, the same for all, and the pictures they were taught from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from frisket.config.load import ConfigError
from frisket.config.tree import Config
from frisket.data.loader import Loader
from frisket.data.records import Item, Prepared
from frisket.data.sample import Batch
from frisket.families.base import Family
from frisket.grid import LatentGrid
from frisket.runs.prepare import prepare
from frisket.scoring.runs import ScoredRun, with_other_clips
from frisket.shapes import CellPlanes, Frames, Plane

_Kind = Literal["held out", "training", "other"]

FEW = 8  # training clips measured on, where none is held out
MOST = 48  # training pictures whose backgrounds and subjects are looked at
SHOWN = 8  # frames of a clip that are looked at
NAMED = 3  # clips an error says the fault of
COVERED = 0.99  # share of a cell from which it counts as covered, or as free


@dataclass(frozen=True, slots=True)
class EvalSet:
    """What every run is measured on: clips as latents with coverage, one a batch.

    `taught` is where among the planes the regions of weight above 0 are.
    """

    kind: _Kind
    batches: tuple[Batch, ...]
    regions: tuple[str, ...]
    taught: tuple[int, ...]
    origin: str  # the run whose masks and regions these are
    left_out: tuple[str, ...]  # clips without a mask, without an inside, or trained on by a run
    files: tuple[str, ...] = ()  # the clip of each batch
    config: Config | None = None  # whose clips and captions these are

    def inside(self, batch: Batch) -> Float[Tensor, "b 1 f h w"]:
        """How much of each cell is taught."""
        return batch.coverage[:, list(self.taught)].float().sum(1, keepdim=True).clamp_max(1)


@dataclass(frozen=True, slots=True)
class TrainingPicture:
    """A training picture as its VAE gives it back, and where its subject is (F H W, 0 to 1).

    `regions` are the taught ones by name, each as `inside` is of all of them together.
    """

    name: str
    frames: Frames
    inside: Plane
    outside: Plane
    regions: Mapping[str, Plane] = field(default_factory=dict)


def choose_eval_set(runs: Sequence[ScoredRun], clips: Path | None, masks: str) -> EvalSet:
    """Choose the clips: those asked for, else those that all runs held out, else training clips.

    Masks and regions are those of the first run that has masks. Raises ConfigError where no clip is
    left that tells inside from outside, and says what to do.
    """
    model = next((run for run in runs if run.masked), runs[0])
    config = model.config
    if clips is not None:
        config = with_other_clips(model.config, clips, masks)
        data = prepare(config)
        kind: _Kind = "other"
        items: Sequence[Item] = data.items
    elif not model.masked:
        raise ConfigError(
            f"{model.name} was trained without masks, so inside and outside cannot be told apart:"
            " name a run with masks as well, or give clips with masks (--clips FOLDER --masks"
            " FOLDER)"
        )
    else:
        data = model.prepared
        kind, items = _choose_items(model, runs)
    usable, left_out = _filter_usable(items, runs if kind != "training" else ())
    taught = tuple(data.regions.index(name) for name in model.taught if name in data.regions)
    whole = EvalSet(kind, (), data.regions, taught, model.name, ())
    telling, files = [], []
    for item, batch in zip(usable, _load_batches(data, usable), strict=True):
        if 0 < float(whole.inside(batch).mean()) < 1:
            telling.append(batch)
            files.append(item.clip)
        else:
            left_out.append(f"{batch.names[0]}: its mask is all or nothing")
    if not telling:
        raise ConfigError(
            f"none of the {len(items)} clips ({kind}) can be measured on: "
            + "; ".join(left_out[:NAMED])
            + ". Give others with --clips FOLDER --masks FOLDER"
        )
    return replace(
        whole,
        batches=tuple(telling),
        left_out=tuple(left_out),
        files=tuple(files),
        config=config,
    )


def _choose_items(model: ScoredRun, runs: Sequence[ScoredRun]) -> tuple[_Kind, Sequence[Item]]:
    held = model.prepared.held
    if held:
        return "held out", held
    first = {item.clip: item for item in reversed(model.prepared.items) if not item.flip}
    common = [item for item in first.values() if all(_is_trained_on(run, item) for run in runs)]
    if not common:
        raise ConfigError(
            "the runs have no clip in common, held out or trained on: give clips to measure on"
            " (--clips FOLDER --masks FOLDER), or hold some out (validation.holdout) and train anew"
        )
    common.sort(key=lambda item: item.name)
    return "training", common[:: -(-len(common) // FEW)]


def _is_trained_on(run: ScoredRun, item: Item) -> bool:
    return any(
        item.clip == trained_item.clip or item.latents == trained_item.latents
        for trained_item in run.prepared.items
    )


def _filter_usable(
    items: Sequence[Item], runs: Sequence[ScoredRun]
) -> tuple[list[Item], list[str]]:
    """Items with a mask that none of the runs was trained on, and why not the others."""
    usable: list[Item] = []
    left_out: list[str] = []
    for item in items:
        trained = [run.name for run in runs if _is_trained_on(run, item)]
        if item.coverage is None or not item.weighs:
            left_out.append(f"{item.name}: it has no mask")
        elif trained:
            left_out.append(f"{item.name}: {', '.join(trained)} was trained on it")
        else:
            usable.append(item)
    return usable, left_out


def _load_batches(data: Prepared, items: Sequence[Item]) -> tuple[Batch, ...]:
    if not items:
        return ()
    loader = Loader(replace(data, held=tuple(items)), batch=1, seed=0, prefetch=0)
    return loader.collate_held()


@torch.no_grad()
def decode_training_pictures(
    run: ScoredRun, family: Family, vae: nn.Module, grid: LatentGrid, device: torch.device
) -> list[TrainingPicture]:
    """The training pictures of a run with masks, decoded from the cache, evenly over the set.

    They come through the VAE as generated pictures do, so that its own marks are on both.
    """
    taught = [run.regions.index(name) for name in run.taught]
    items = {item.clip: item for item in reversed(run.prepared.items) if not item.flip}
    masked = sorted(
        (item for item in items.values() if item.coverage is not None), key=lambda item: item.name
    )
    pictures = []
    for batch in _load_batches(run.prepared, masked[:: -(-len(masked) // MOST)]):
        clip = family.decode(vae, batch.latents.to(device))[0]
        levels = clip.float().cpu().add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)
        cells = batch.coverage[0, taught].float().sum(0, keepdim=True).clamp_max(1)
        plane = to_pixels(cells, grid)[0]
        some = _pick_indices(len(plane))
        inside, outside = (plane >= COVERED).float(), (plane <= 1 - COVERED).float()
        frames = levels.permute(1, 2, 3, 0)[some].contiguous()
        planes = to_pixels(batch.coverage[0, taught].float(), grid)
        regions = {
            name: (region_plane >= COVERED).float()[some]
            for name, region_plane in zip(run.taught, planes, strict=True)
        }
        pictures.append(
            TrainingPicture(batch.names[0], frames, inside[some], outside[some], regions)
        )
    return pictures


def to_pixels(cells: CellPlanes, grid: LatentGrid) -> Float[Tensor, "k F H W"]:
    """Cells as blocks of the pixels and frames behind them."""
    wide = cells.repeat_interleave(grid.spatial, -1).repeat_interleave(grid.spatial, -2)
    later = wide[:, 1:].repeat_interleave(grid.temporal, 1)
    return torch.cat([wide[:, :1], later], 1)


def pick_frames(frames: Frames) -> Frames:
    """At most SHOWN frames of a clip, evenly."""
    return frames[_pick_indices(len(frames))]


def _pick_indices(count: int) -> list[int]:
    return sorted({round(place) for place in torch.linspace(0, count - 1, SHOWN).tolist()})

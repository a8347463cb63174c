"""What a denoiser is told beside the noisy latents, as shapes: for the memory prediction."""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from frisket.families.base import Conditioning, Family, Source, Variant
from frisket.families.blocks import blocks_of
from frisket.families.experts import experts_of, first
from frisket.training.memory.dry_run import META, Rehearsal

CAPTION = "a portrait of a person in a sunlit room, looking to the left"  # a token a letter


class Unpredictable(RuntimeError):
    """A model whose step cannot be followed without its weights; the message says why."""


def build_conditioning(
    family: Family, source: Source, denoiser: nn.Module, size: tuple[int, int, int], batch: int
) -> Conditioning:
    """Conditioning of a caption of ordinary length, with the shapes this denoiser takes.

    The tiny parts of the family say what there is and how long it is; the width of each is that of
    the real model, found by its name in both configurations.
    """
    variant = family.variants[source.variant]
    tiny = family.rehearsal_parts(source)
    grid, step = variant.grid, variant.grid.step
    assert tiny.vae is not None
    assert tiny.text is not None
    pictures = [picture(size)] if variant.sees == "pictures" else []
    small = (1 + grid.temporal if size[0] > 1 else 1, 2 * step, 3 * step)
    clip = torch.zeros(1, 3, *small)
    conditioning = dict(family.embed(tiny.text, [CAPTION], [pictures] if pictures else ()))
    conditioning |= family.image_conditioning(tiny.vae, tiny.vision, clip, pictures)
    cells = {"small": grid.cells(*small), "real": grid.cells(*size)}
    shapes = {name: _scale_shape(value, cells) for name, value in conditioning.items()}
    assert tiny.denoiser is not None
    mine, theirs = _widths(family, tiny.denoiser), _widths(family, denoiser)
    misfit: RuntimeError | None = None
    for widths in _choices(conditioning, mine, theirs):
        candidate = {
            name: _resize_tensor(value, shapes[name], widths.get(name), batch)
            for name, value in conditioning.items()
        }
        fault = _misfit(family, denoiser, variant, candidate, batch)
        if fault is None:
            return candidate
        misfit = misfit or fault  # of the likeliest widths
    raise Unpredictable(
        f"{family.name} {source.variant}: what its denoiser is told"
        f" ({', '.join(conditioning)}) could not be derived from its configuration"
    ) from misfit


def picture(size: tuple[int, int, int]) -> Tensor:
    """A black reference picture, 1 H W 3, of a clip's size."""
    return torch.zeros(1, *size[1:], 3, dtype=torch.uint8)


def _scale_shape(value: Tensor, cells: Mapping[str, tuple[int, int, int]]) -> tuple[int, ...]:
    """The shape of a tensor with the cells of the real clip where it has those of the small one."""
    shape, small, real = tuple(value.shape), cells["small"], cells["real"]
    if len(shape) < 5 or shape[-2:] != small[1:]:
        return shape
    return (*shape[:-3], real[0] if shape[-3] == small[0] else shape[-3], *real[1:])


def _widths(family: Family, denoiser: nn.Module) -> Mapping[str, int]:
    model: Any = first(denoiser)
    return family.conditioning_widths(dict(model.config))


def _choices(
    conditioning: Conditioning, mine: Mapping[str, int], theirs: Mapping[str, int]
) -> Iterator[dict[str, int]]:
    """Widths that each floating tensor with a width may have in the real model, likeliest first."""
    named = [
        name
        for name, value in conditioning.items()
        if value.is_floating_point() and value.ndim in (2, 3)
    ]
    options = []
    for name in named:
        width = conditioning[name].shape[-1]
        keys = [key for key, value in mine.items() if value == width and key in theirs]
        fitting = dict.fromkeys(theirs[key] for key in sorted(keys, key=_unlikely))
        options.append([*fitting, width] if width not in fitting else list(fitting))
    for chosen in itertools.product(*options):
        yield dict(zip(named, chosen, strict=True))


def _unlikely(key: str) -> bool:
    words = ("text", "joint", "cross", "pooled", "caption", "cap_", "image", "context", "embed")
    return not any(word in key for word in words)


def _resize_tensor(value: Tensor, shape: tuple[int, ...], width: int | None, batch: int) -> Tensor:
    """On the meta device where it is large or floating, with values kept where they are masks."""
    mask = value.ndim == 2 and bool(((value == 0) | (value == 1)).all())
    if value.is_floating_point() and value.ndim > 1 and not mask:
        last = (width or shape[-1],)
        return torch.empty((batch, *shape[1:-1], *last), dtype=value.dtype, device=META)
    return value.expand(batch, *value.shape[1:]) if len(value) == 1 else value


def _misfit(
    family: Family, denoiser: nn.Module, variant: Variant, conditioning: Conditioning, batch: int
) -> RuntimeError | None:
    """Why the denoiser does not take these shapes, if so: tried on as small a clip as may be."""
    grid = variant.grid
    tails = [tuple(value.shape[-3:]) for value in conditioning.values() if value.ndim >= 5]
    cells = max(tails, default=(1, 2 * grid.patch, 2 * grid.patch))
    noisy = torch.empty((batch, grid.channels, *cells), device=META)
    # The first block has seen all it is told: the others would take seconds and say no more.
    called = [
        block.register_forward_hook(_enough)
        for expert in experts_of(denoiser).values()
        for block in blocks_of(expert).values()
    ]
    try:
        with torch.no_grad(), Rehearsal():
            family.predict(denoiser, noisy, torch.full((batch,), 0.9), conditioning)
    except _Enough:
        return None
    except NotImplementedError:
        raise
    except RuntimeError as error:
        return error
    finally:
        for hook in called:
            hook.remove()
    return None


class _Enough(Exception):
    """A block has run."""


def _enough(*_: Any) -> None:
    raise _Enough

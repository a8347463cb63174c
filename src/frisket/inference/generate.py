"""Samples pictures and clips with a family's public pipeline, from prompts embedded beforehand."""

import inspect
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from frisket.adapters.routed.peft_variant import is_scheduled
from frisket.data.sample import join
from frisket.families.base import Conditioning, Family, Parts, Variant
from frisket.families.experts import Experts, first
from frisket.inference.methods.base import Method
from frisket.inference.sample_specs import SampleSpec, build_spec, check, references
from frisket.shapes import Frames

log = logging.getLogger(__name__)

PIXELS = 1 << 18  # pixels (frames counted) that are sampled together when no batch is given
MOST = 16  # samples at a time, however small
PromptEmbeddings = Mapping[
    tuple[str, tuple[Path, ...]], Conditioning
]  # by text and the pictures beside it


@dataclass(frozen=True, slots=True)
class Picture:
    """One sample; an image is a clip of one frame."""

    spec: SampleSpec
    frames: Frames


def generate(
    family: Family,
    parts: Parts,
    prompts: Sequence[str],
    *,
    seeds: Sequence[int],
    negative: str = "",
    images: Sequence[Path] = (),
    height: int | None = None,
    width: int | None = None,
    frames: int | None = None,
    steps: int | None = None,
    guidance: float | None = None,
    batch: int | None = None,
) -> Iterator[Picture]:
    """Sample one picture for each pair of prompt and seed, with parts that are all loaded.

    As `embed` and then `sample`. Sizes in pixels, steps and guidance default to the variant's own.
    Raises ValueError, before any work, when prompts and seeds differ in number or the model cannot
    make that size.
    """
    if len(prompts) != len(seeds):
        raise ValueError(f"{len(prompts)} prompts but {len(seeds)} seeds: every picture takes one")
    specs = [
        build_spec(
            family.variants[parts.variant],
            *pair,
            negative=negative,
            images=images,
            height=height,
            width=width,
            frames=frames,
            steps=steps,
            guidance=guidance,
        )
        for pair in zip(prompts, seeds, strict=True)
    ]
    _denoiser_of(parts)
    return sample(
        family, parts, embed(family, parts.variant, parts.text, specs), specs, batch=batch
    )


@torch.no_grad()
def embed(
    family: Family, variant: str, text: nn.Module | None, specs: Sequence[SampleSpec]
) -> PromptEmbeddings:
    """What `sample` needs instead of the text encoder: every distinct text once, on the CPU.

    Negative prompts are embedded where the variant takes them and guidance is on. A text encoder
    that looks at the pictures is shown them. Raises ValueError for shots the model cannot make and
    where the text encoder is not loaded.
    """
    check(family, variant, specs)
    if text is None:
        raise ValueError("nothing to embed prompts with: the text encoder is not loaded")
    card = family.variants[variant]
    embeddings: dict[tuple[str, tuple[Path, ...]], Conditioning] = {}
    for spec in specs:
        pictures = references(card, spec)
        for words in (spec.prompt, *([spec.negative] if _is_guided(card, spec) else [])):
            if (words, spec.images) not in embeddings:
                conditioning = family.embed(text, [words], [pictures] if pictures else ())
                embeddings[words, spec.images] = {
                    name: value.cpu() for name, value in conditioning.items()
                }
    return embeddings


def sample(
    family: Family,
    parts: Parts,
    embeddings: PromptEmbeddings,
    specs: Sequence[SampleSpec],
    *,
    batch: int | None = None,
    device: torch.device | None = None,
    tile: bool = False,
    method: Method | None = None,
) -> Iterator[Picture]:
    """Sample the shots in order, as they are done, without a text encoder.

    `parts` need a VAE, a denoiser and, where the variant has one, the image encoder. `device` is
    where sampling runs, by default where the denoiser is; VAE and image encoder may wait elsewhere
    and visit it. `tile` decodes in tiles. Every picture has its own generator (on the CPU: a seed
    means the same picture on every device), so it does not depend on `batch` beyond rounding;
    without one, pictures of about 512 x 512 pixels in all are sampled together, and always one by
    one where the model is shown pictures. `method` is put on the pipeline for each of its calls.
    Torch's global generators, gradients and the train or eval mode of every module are left as
    they were.

    Raises ValueError, before any work, for shots that cannot be made or were not embedded.
    """
    sampled = clips(
        family, parts, embeddings, specs, batch=batch, device=device, tile=tile, method=method
    )
    return (Picture(spec, _to_uint8(clip, spec)) for spec, clip in sampled)


def clips(
    family: Family,
    parts: Parts,
    embeddings: PromptEmbeddings,
    specs: Sequence[SampleSpec],
    *,
    batch: int | None = None,
    device: torch.device | None = None,
    tile: bool = False,
    method: Method | None = None,
) -> Iterator[tuple[SampleSpec, Tensor]]:
    """As `sample`, before rounding: each shot with its clip, float F 3 H W in [0, 1]."""
    check(family, parts.variant, specs)
    card = family.variants[parts.variant]
    lost = [spec.prompt for spec in specs if not _texts(card, spec) <= embeddings.keys()]
    if lost:
        raise ValueError(f"the prompt {lost[0]!r} was not embedded; embed all shots first")
    denoiser = _denoiser_of(parts)
    place = device or _device_of(denoiser)
    bare = Parts(parts.variant, parts.vae, None, denoiser, parts.vision)
    pipeline = _on(family.pipeline(bare), place)
    pipeline.set_progress_bar_config(disable=True)
    if tile and not hasattr(parts.vae, "enable_tiling"):
        raise ValueError(f"{type(parts.vae).__name__} has no tiles: set memory.tile_vae = false")

    def run() -> Iterator[tuple[SampleSpec, Tensor]]:
        # Of the pipelines that are shown pictures some take one sample at a time.
        for group in _batches(specs, 1 if card.sees == "pictures" else batch):
            call = partial(_call, family, pipeline, embeddings, group, bare, place)
            attached = method.attach(pipeline, call, group) if method else nullcontext()
            with (
                _restore_modes(bare, place),
                _visiting(bare, place),
                _tiling(parts.vae, tile),
                attached,
            ):
                output = pipeline(**call())
            yield from zip(group, _stack(output), strict=True)

    return run()


def _denoiser_of(parts: Parts) -> nn.Module:
    if parts.denoiser is None:
        raise ValueError("nothing to sample with: the denoiser is not loaded")
    return parts.denoiser


def _is_guided(card: Variant, spec: SampleSpec) -> bool:
    """Whether a negative prompt takes part; where exactly it does is the pipeline's to say."""
    return card.negative and spec.guidance > 0


def _texts(card: Variant, spec: SampleSpec) -> set[tuple[str, tuple[Path, ...]]]:
    texts = {spec.prompt, spec.negative} if _is_guided(card, spec) else {spec.prompt}
    return {(text, spec.images) for text in texts}


def _batches(specs: Sequence[SampleSpec], batch: int | None) -> Iterator[list[SampleSpec]]:
    """Neighbours that one call of the pipeline can make."""

    def kind(spec: SampleSpec) -> tuple[Any, ...]:
        return spec.height, spec.width, spec.frames, spec.steps, spec.guidance, spec.images

    for _, group in groupby(specs, kind):
        alike = list(group)
        pixels = alike[0].frames * alike[0].height * alike[0].width
        size = batch or min(MOST, max(1, PIXELS // pixels))
        for start in range(0, len(alike), size):
            yield alike[start : start + size]


def _call(
    family: Family,
    pipeline: Any,
    embeddings: PromptEmbeddings,
    specs: Sequence[SampleSpec],
    parts: Parts,
    device: torch.device,
) -> dict[str, Any]:
    """What the pipeline is called with for one batch."""
    variant, denoiser = parts.variant, _denoiser_of(parts)
    card, common = family.variants[variant], specs[0]
    # The longest text of both sides: some pipelines join the two along the batch.
    texts = [spec.prompt for spec in specs]
    if _is_guided(card, common):
        texts += [spec.negative for spec in specs]
    joined = collate([embeddings[text, common.images] for text in texts])
    # Some pipelines convert nothing, and draw their noise in the embeddings' precision.
    dtype = first(denoiser).dtype
    joined = {
        name: value.to(device, dtype if value.is_floating_point() else None)
        for name, value in joined.items()
    }
    positive, negative = (
        {name: value[part] for name, value in joined.items()}
        for part in (slice(None, len(specs)), slice(len(specs), None))
    )
    kwargs = family.call(
        variant,
        positive,
        negative if _is_guided(card, common) else None,
        guidance=common.guidance,
        references=references(card, common),
    )
    return {
        **kwargs,
        **(family.streams.uncached if is_scheduled(denoiser) else {}),
        **_size(pipeline, common),
        "num_inference_steps": common.steps,
        "generator": [torch.Generator().manual_seed(spec.seed) for spec in specs],
        "output_type": "pt",
    }


def collate(conditionings: Sequence[Conditioning]) -> dict[str, Tensor]:
    """Join conditionings of one sample each; texts are padded with zeros at the end of dim 1."""
    labels = ("that are sampled",)
    return {
        name: join(name, [conditioning[name] for conditioning in conditionings], labels)
        for name in conditionings[0]
    }


def _size(pipeline: Any, spec: SampleSpec) -> dict[str, int]:
    """The size by the names the pipeline has for it."""
    names = inspect.signature(pipeline.__call__).parameters
    size = {"height": spec.height, "width": spec.width, "num_frames": spec.frames}
    return {name: value for name, value in size.items() if name in names}


def _device_of(denoiser: nn.Module) -> torch.device:
    if isinstance(denoiser, Experts) and denoiser.device is not None:
        return denoiser.device
    device: torch.device = next(first(denoiser).parameters()).device
    return device


def _on(pipeline: Any, device: torch.device) -> Any:
    """The same pipeline, told where it runs: it would guess from parts that wait on the CPU."""
    kind = type(pipeline)
    where = property(lambda _: device)
    pipeline.__class__ = type(kind.__name__, (kind,), {"device": where, "_execution_device": where})
    return pipeline


@contextmanager
def _visiting(parts: Parts, device: torch.device) -> Iterator[None]:
    """VAE and image encoder come to the device when they are called, and go home afterwards."""
    with ExitStack() as stack:
        for module, names in ((parts.vae, ("encode", "decode")), (parts.vision, ("forward",))):
            weight = None if module is None else next(module.parameters(), None)
            for name in names if weight is not None else ():
                assert module is not None
                assert weight is not None
                setattr(module, name, _visit(module, getattr(module, name), weight.device, device))
                stack.callback(delattr, module, name)
        yield


def _visit(
    module: nn.Module, method: Callable[..., Any], home: torch.device, device: torch.device
) -> Callable[..., Any]:
    def visit(*args: Any, **kwargs: Any) -> Any:
        module.to(device)
        try:
            moved = [value.to(device) if isinstance(value, Tensor) else value for value in args]
            return method(*moved, **kwargs)
        finally:
            module.to(home)

    return visit


@contextmanager
def _tiling(vae: Any, tile: bool) -> Iterator[None]:
    """Inside, the VAE works in tiles."""
    if not tile or vae.use_tiling:
        yield
        return
    vae.enable_tiling()
    try:
        yield
    finally:
        vae.disable_tiling()


def _stack(output: Any) -> Tensor:
    """What a pipeline returns as b F 3 H W in [0, 1]; opacity, where there is one, is left out."""
    if (frames := getattr(output, "frames", None)) is not None:
        stacked = torch.as_tensor(frames) if not isinstance(frames, list) else torch.stack(frames)
    else:
        stacked = torch.as_tensor(output.images)[:, None]
    return stacked[:, :, :3]


def _to_uint8(clip: Tensor, spec: SampleSpec) -> Frames:
    values = clip.detach().float().cpu()
    if not torch.isfinite(values).all():
        log.warning(
            "the picture of %r, seed %d, has NaN or inf in it; painted black",
            spec.prompt,
            spec.seed,
        )
        values = values.nan_to_num(0.0, 0.0, 0.0)
    if values.shape[-2:] != (spec.height, spec.width) or len(values) != spec.frames:
        log.warning(
            "%r: asked for %d frames of %d x %d pixels, the pipeline made %d of %d x %d",
            *(spec.prompt, spec.frames, spec.height, spec.width, len(values), *values.shape[-2:]),
        )
    return values.mul(255).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


@contextmanager
def _restore_modes(parts: Parts, device: torch.device) -> Iterator[None]:
    """Eval mode, no gradients, generators of its own; what was there before comes back."""
    modules = [
        module
        for part in (parts.vae, parts.vision, parts.denoiser)
        if isinstance(part, nn.Module)
        for module in part.modules()
    ]
    modes = [module.training for module in modules]
    gpus = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=gpus), torch.no_grad():
        for module in modules:
            module.training = False
        try:
            yield
        finally:
            for module, mode in zip(modules, modes, strict=True):
                module.training = mode

"""How much memory a configuration takes, foretold from shapes: no weights are read or loaded."""

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

import torch
from torch import Tensor, nn

from frisket.adapters import lora
from frisket.config.checks.control import has_control
from frisket.config.tree import Config
from frisket.families.base import (
    FAMILIES,
    Conditioning,
    Family,
    Source,
    WeightsNotFound,
)
from frisket.families.blocks import blocks_of, plain_tensors
from frisket.families.experts import experts_of
from frisket.families.whole_model import open_weights
from frisket.losses.base import BASE, CONTROLLED, DECODED, EMA, FACES, Step
from frisket.runs.control.memory import rehearse_controls
from frisket.runs.faces.decoding_memory import measure_decoding
from frisket.runs.image_adapters.readers import measure_reference
from frisket.runs.image_adapters.setup import attach_image_adapter, rehearse_rows
from frisket.runs.memory.clip_sizes import find_size
from frisket.runs.memory.conditioning_shapes import CAPTION, Unpredictable, build_conditioning
from frisket.runs.memory.routed_step import RoutedStep, build_routed_step
from frisket.runs.refusals import terms_of
from frisket.runs.training_parts import spec_of
from frisket.training.memory import precision as precision_module
from frisket.training.memory.dry_run import META, Rehearsal
from frisket.training.token_routing import silence

__all__ = ["Prediction", "Unpredictable", "predict"]

MIB = 2**20
# Bytes of optimizer state for each trained number, by [optimizer] name; others are taken for AdamW.
# Measured in tests/runs/memory/test_estimate.py on what is installed there.
STATE = {
    "adamw": 8.0,
    "adamw8bit": 2.03,
    "adafactor": 0.3,
    "lion": 4.0,
    "muon": 4.0,
    "prodigy": 16.0,
    "schedulefree": 8.0,
    "sgd": 4.0,
}


@dataclass(frozen=True, slots=True)
class Prediction:
    """Memory on the device in MiB, at the worst moment; `total` is what a card must have free.

    The parts of training add up. `vae` and `text` are the peaks while `prepare` encodes (None where
    the shape of the model is not known here); they never meet the denoiser. `waiting` is what block
    swap and idle experts keep on the CPU. CUDA's own context and what the allocator cannot use come
    on top. Where all weights are trained, `weights` are these and `adapter` is 0.
    """

    weights: float
    adapter: float
    optimizer: float
    gradients: float
    activations: float
    vae: float | None
    text: float | None
    waiting: float
    latents: tuple[int, ...]  # b c f h w of a micro-batch
    blocks: int  # of the denoiser, that memory.swap_blocks may name

    @property
    def training(self) -> float:
        """Peak of a training step."""
        return self.weights + self.adapter + self.optimizer + self.gradients + self.activations

    @property
    def total(self) -> float:
        """Peak of the whole run."""
        return max(self.training, self.vae or 0.0, self.text or 0.0)


def predict(config: Config, *, prepare: bool = True, kept_share: float = 1.0) -> Prediction:
    """What `train` (and, with `prepare`, `prepare` before it) will take at most.

    The real step runs on the meta device: shapes and lifetimes are those of training, values are
    not there. With `kept_share` below 1 it is a step routed by [routing] that carries this share of
    the image's tokens. Of several experts the larger demand counts. Raises WeightsNotFound where
    the shape of the denoiser is not known here, Unpredictable where its code asks for values.
    """
    known = _demand(_Request.of(config, prepare=prepare, kept_share=kept_share))
    resident, waiting = _place_weights(known.experts, config.memory.swap_blocks)
    state = known.trained * STATE.get(config.optimizer.name, 8.0)
    average = 4.0 * known.trained if config.optimizer.ema else 0.0
    trains_all = config.model.train == "all"
    return Prediction(
        weights=resident + known.net + (known.adapter if trains_all else 0.0),
        adapter=0.0 if trains_all else known.adapter,
        optimizer=(state + average) / MIB,
        # A part of them is there at the worst moment, all when it has passed.
        gradients=known.adapter,
        activations=max(0.0, known.peak - known.adapter),
        vae=known.vae,
        text=known.text,
        waiting=waiting,
        latents=known.latents,
        blocks=min(len(blocks) for _, blocks in known.experts),
    )


@dataclass(frozen=True, slots=True)
class _Request:
    """A configuration, known by what a rehearsal depends on."""

    key: str
    config: Config = field(compare=False)
    prepare: bool
    kept_share: float

    @classmethod
    def of(cls, config: Config, *, prepare: bool, kept_share: float) -> "_Request":
        """Where weights lie does not change what a step makes: one rehearsal for all depths."""
        memory = config.memory.model_copy(update={"swap_blocks": 0})
        config = config.model_copy(update={"memory": memory})
        sections = {"model", "lora", "image_adapter", "control", "losses", "timesteps", "memory"}
        sections |= {"routing"} if kept_share < 1 else set()
        family = FAMILIES.load(config.model.family)
        size = find_size(config, family.variants[config.model.variant or family.default])
        run = (config.run.batch, config.run.precision, size)
        return cls(f"{config.model_dump_json(include=sections)} {run}", config, prepare, kept_share)


@dataclass(frozen=True, slots=True)
class _Demand:
    """What a rehearsal shows, wherever the weights lie (MiB, but for `experts` in bytes)."""

    experts: tuple[tuple[float, tuple[float, ...]], ...]  # all frozen weights, and by block
    trained: int
    adapter: float
    peak: float
    vae: float | None
    text: float | None
    latents: tuple[int, ...]
    net: float = 0.0  # frozen weights of a ControlNet, which is no part of the denoiser


@lru_cache(maxsize=64)
def _demand(request: _Request) -> _Demand:
    config = request.config
    family = FAMILIES.load(config.model.family)
    source = make_source(config, family)
    size = find_size(config, family.variants[source.variant])
    try:
        known = _training(config, family, source, size, request.kept_share)
        if request.prepare:
            vae = _encoding(config, family, source, size)
            known = replace(known, vae=vae, text=_embedding(family, source))
    except NotImplementedError as error:
        raise Unpredictable(
            f"{family.name} {source.variant} cannot be rehearsed on shapes: {error}"
        ) from error
    finally:
        gc.collect()  # autograd graphs of the rehearsal hold one another
    return known


def make_source(config: Config, family: Family) -> Source:
    """The denoiser's shapes, on the meta device."""
    model = config.model
    chosen = () if model.experts == "both" else (model.experts,)
    return Source(
        variant=model.variant or family.default,
        path=model.source,
        revision=model.revision,
        dtype=getattr(torch, model.dtype),
        device="meta",
        quantise=config.memory.quantise,
        clip_skip=model.clip_skip,
        max_tokens=model.max_tokens,
        experts=chosen,
    )


def _training(
    config: Config, family: Family, source: Source, size: tuple[int, int, int], kept_share: float
) -> _Demand:
    variant = family.variants[source.variant]
    denoiser = build_shapes(config, family, source)
    shape = (config.run.batch, variant.grid.channels, *variant.grid.cells(*size))
    conditioning = build_conditioning(family, source, denoiser, size, config.run.batch)
    # Last: the net is in no call before it is shown rows of the step's.
    net = rehearse_controls(config, family, source, denoiser) if has_control(config) else 0.0
    trained = [value for value in denoiser.parameters() if value.requires_grad]
    experts = tuple(
        (_bytes(expert), tuple(map(_bytes, blocks_of(expert).values())))
        for expert in experts_of(denoiser).values()
    )
    routed = build_routed_step(config, family, denoiser, shape, kept_share)
    peak = max(
        _rehearse(config, family, source, denoiser, name, shape, conditioning, routed)
        for name in experts_of(denoiser)
    )
    peak += measure_decoding(config, family, source, size)
    adapter = sum(value.nbytes for value in trained) / MIB
    count = sum(value.numel() for value in trained)
    return _Demand(experts, count, adapter, peak, None, None, shape, net / MIB)


def build_shapes(config: Config, family: Family, source: Source) -> nn.Module:
    """The denoiser as it is trained, on the meta device."""
    denoiser = family.load_denoiser(source).to(META)
    choose_trained(denoiser, config, family)
    _switch(denoiser, config)
    return denoiser


def choose_trained(denoiser: nn.Module, config: Config, family: Family) -> None:
    """Let what is trained ask for a gradient: all weights, or an adapter on each expert."""
    if config.model.train == "all":
        open_weights(denoiser)
        return
    if config.model.train == "controlnet":
        denoiser.requires_grad_(False)  # the net comes when the rest is as it trains
        return
    if config.model.train == "image_adapter":
        sizes = measure_reference(config)  # its networks are opened: not on the meta device
        with META:
            attach_image_adapter(config, family, denoiser, sizes)
        rehearse_rows(config, family, denoiser, sizes)
        return
    spec = spec_of(config, family)
    for expert in experts_of(denoiser).values():
        with next(expert.parameters()).device:
            lora.attach(expert, spec, seed=0, streams=family.streams)


def _switch(denoiser: nn.Module, config: Config) -> None:
    """What changes the lifetimes of tensors: the rest of [memory] changes only where they lie."""
    denoiser.train()
    if config.memory.checkpointing:
        precision_module.checkpoint_blocks(denoiser)
    if config.memory.storage == "float8":
        precision_module.store_float8(denoiser, getattr(torch, config.model.dtype))
    precision_module.share_inputs(denoiser)


def _place_weights(
    experts: Sequence[tuple[float, tuple[float, ...]]], swapped: int
) -> tuple[float, float]:
    """Frozen weights on the device at once, and those that wait on the CPU, in MiB."""
    resident, waiting = [], 0.0
    for whole, blocks in experts:
        apart = blocks[-swapped:] if swapped else ()
        # One is in use and, on CUDA, the next one is on its way.
        resident.append(whole - sum(apart) + sum(sorted(apart)[-2:]))
        waiting += sum(apart)
    idle = sum(resident) - max(resident)
    return max(resident) / MIB, (waiting + idle) / MIB


def _bytes(module: nn.Module) -> float:
    """Of the frozen tensors of a module."""
    values = [value for value in module.parameters() if not value.requires_grad]
    tensors = [tensor for value in [*values, *module.buffers()] for tensor in plain_tensors(value)]
    return float(
        sum({tensor.untyped_storage()._cdata: tensor.nbytes for tensor in tensors}.values())
    )


def _rehearse(
    config: Config,
    family: Family,
    source: Source,
    denoiser: nn.Module,
    name: str,
    shape: tuple[int, ...],
    conditioning: Conditioning,
    routed: RoutedStep,
) -> float:
    """Peak of one step beyond the parameters, in MiB."""
    lower = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}
    variant = family.variants[source.variant]
    low, high = variant.experts.get(name, (0.0, 1.0)) if name else (0.0, 1.0)
    objective = family.objective(
        source.variant,
        weighting=config.timesteps.weighting,
        min_snr=config.timesteps.min_snr,
    )
    for value in denoiser.parameters():
        value.grad = None
    cuda = config.model.device not in ("cpu", "mps")
    clean = torch.empty(shape, device=META)
    cells = torch.empty((shape[0], 1, *shape[2:]), device=META)
    t = torch.full((shape[0],), (low + high) / 2)
    # Terms that look at decoded pictures are measured apart (`measure_decoding`).
    terms = [pair for pair in terms_of(config).values() if not pair[0].needs & {DECODED, FACES}]

    def forward() -> tuple[Tensor, Step]:
        """As Trainer.step: the noise is gone when the backward pass begins."""
        noisy, target = objective.corrupt(clean, torch.empty_like(clean), t)
        needs = {need for term, _ in terms for need in term.needs}
        priors = {}
        with routed.carry():
            for need in sorted(needs):  # an averaged teacher costs what the base does
                with torch.no_grad(), lora.frozen(denoiser):
                    priors[need] = family.predict(denoiser, noisy, t, conditioning)
            prediction = family.predict(denoiser, noisy, t, conditioning)
        step = Step(
            prediction=silence(prediction, routed.selection),
            target=target,
            t=t,
            weights=cells,
            coverage=cells,
            divisor=cells.sum((1, 2, 3, 4)),
            prior=priors.get(BASE),
            prior_ema=priors.get(EMA),
            prior_control=priors.get(CONTROLLED),
            importance=routed.selection.importance if routed.selection else None,
        )
        values = [term(step).mean() * strength for term, strength in terms]
        return torch.stack(values or [prediction.float().mean()]).sum().to(META), step

    with Rehearsal(lower[config.run.precision], cuda=cuda) as live:
        held = live.hold([*denoiser.parameters(), *denoiser.buffers()])
        live.hold([clean, cells, *conditioning.values()])
        loss, step = forward()
        live.backward(loss)
        del step  # the trainer looks at it after the backward pass
    return (live.peak - held) / MIB


def _encoding(
    config: Config, family: Family, source: Source, size: tuple[int, int, int]
) -> float | None:
    """Peak of encoding one clip, in MiB; None where the VAE's shape is not known here."""

    def load() -> nn.Module:
        vae = family.load_vae(replace(source, quantise="none"))
        if config.memory.tile_vae:
            precision_module.tile(vae)
        return vae

    def encode(vae: nn.Module) -> None:
        family.encode(vae, torch.empty(1, 3, *size, device=META))

    return _measure_part(load, encode)


def _embedding(family: Family, source: Source) -> float | None:
    """Peak of embedding one caption, in MiB; None where the encoder is not known here."""

    def load() -> nn.Module:
        return family.load_text(replace(source, quantise="none"))

    def embed(text: nn.Module) -> None:
        family.embed(text, [CAPTION])

    return _measure_part(load, embed)


def _measure_part(load: Callable[[], nn.Module], run: Callable[[nn.Module], None]) -> float | None:
    try:
        model = load()
    except WeightsNotFound:
        return None
    with torch.no_grad(), Rehearsal() as live:
        live.hold([*model.parameters(), *model.buffers()])
        run(model)
    return live.peak / MIB

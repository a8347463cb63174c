"""Loads what sampling needs, one after the other, so that it fits the card."""

import gc
import logging
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from frisket.adapters import lora as adapter
from frisket.adapters.files import header
from frisket.adapters.routed.factors import Factors, FactorSource
from frisket.adapters.routed.peft_variant import connect, find_factors, route
from frisket.config.tree import Config
from frisket.families.base import TOKENS, Family, Parts, Source, Variant, layer_names
from frisket.inference.generate import PromptEmbeddings, embed
from frisket.inference.sample_specs import SampleSpec
from frisket.runs.sampling.whole_models import (
    check_models,
    is_model,
    put_on_model,
    read_metadata,
)
from frisket.training.memory import plan as memory_plan

log = logging.getLogger(__name__)
PLAIN = memory_plan.MemoryPlan()
# What a LoRA's metadata say of how its captions were read: key, option of [model], value if unset.
READING = (("ss_clip_skip", "clip_skip", 1), ("ss_max_token_length", "max_tokens", TOKENS))


def embed_prompts(family: Family, source: Source, specs: Sequence[SampleSpec]) -> PromptEmbeddings:
    """Load the text encoder, embed, and let go of it: afterwards its memory is free."""
    text = family.load_text(source)
    embeddings = embed(family, source.variant, text, specs)
    del text
    free(source)
    return embeddings


def free(source: Source) -> None:
    """Give back what was let go of, on the device too."""
    gc.collect()
    if source.device.startswith("cuda"):
        torch.cuda.empty_cache()


def load_sampler(
    family: Family,
    source: Source,
    plan: memory_plan.MemoryPlan = PLAIN,
    lora: Sequence[tuple[Path, float]] = (),
    places: Sequence[FactorSource] = (),
    *,
    keep: list[Factors] | None = None,
) -> Parts:
    """What sampling needs once prompts are embedded: VAE, image encoder, denoiser with its LoRAs.

    In their place may be one model whose weights were all trained, by its folder.

    VAE and image encoder wait on the CPU. `places` say where each LoRA acts (see `attach_loras`).
    `keep`, where given, gets what each LoRA's update is multiplied by: then all of them can be.
    Raises AdapterMismatch for a LoRA of another base, and CannotFit for switches of `plan` that the
    model cannot do.
    """
    vae, vision = load_waiting(family, source)
    device = memory_plan.load_device(plan, source.device)
    denoiser = family.load_denoiser(replace(source, device=device, experts=()))
    parts = Parts(source.variant, vae, None, denoiser, vision)
    check_models(family, source.variant, lora)
    if lora and is_model(lora[0][0]):
        put_on_model(family, source, plan, denoiser, lora[0][0])
        lora = ()
    factors = attach_loras(family, parts, lora, places=places, routed=keep is not None)
    if keep is not None:
        keep.extend(adapter_factors for adapter_factors in factors if adapter_factors is not None)
    memory_plan.apply(denoiser, plan, device=source.device)
    return parts


def plan_of(config: Config) -> memory_plan.MemoryPlan:
    """The `[memory]` of a configuration, for sampling: compiling takes longer than it saves."""
    return replace(memory_plan.MemoryPlan(**config.memory.model_dump()), compile=False)


def load_waiting(family: Family, source: Source) -> tuple[nn.Module, nn.Module | None]:
    """VAE and, where there is one, the image encoder, on the CPU; sampling has them over."""
    waiting = replace(source, device="cpu")
    return family.load_vae(waiting), family.load_vision(waiting)


def files_of(path: Path) -> tuple[Path, ...]:
    """The files a LoRA is in: itself, or one for each expert (`stem-high`, `stem-low`)."""
    expert_files = () if path.exists() else sorted(path.parent.glob(f"{path.stem}-*{path.suffix}"))
    return tuple(expert_files) or (path,)


def check_loras(family: Family, variant: str, lora: Sequence[tuple[Path, float]]) -> None:
    """Find a wrong LoRA file before the weights are loaded, as far as it shows without them.

    Raises FileNotFoundError and AdapterMismatch.
    """
    check_models(family, variant, lora)
    names = layer_names(family, variant)
    for path, _ in lora:
        for file in () if is_model(path) else files_of(path):
            if names.rows:
                adapter.spec_of(file, names, prefix=family.lora_prefix)
            else:
                header(file)


def tell_reading(variant: Variant, source: Source, lora: Sequence[tuple[Path, float]]) -> None:
    """Warn of every LoRA whose captions were read otherwise than these prompts will be.

    By `ss_clip_skip` and `ss_max_token_length`, which kohya's files and ours carry; one that says
    neither and is not ours may have been trained in any way.
    """
    read = {"clip_skip": max(1, source.clip_skip), "max_tokens": source.max_tokens}
    fixed = {"clip_skip": not variant.clip_skip, "max_tokens": variant.max_tokens <= TOKENS}
    for path, _ in lora:
        for file in files_of(path):
            metadata = read_metadata(file)
            for key, name, unset in READING:
                setting = metadata.get(key, "None" if "frisket.version" in metadata else "")
                number = int(setting) if re.fullmatch(r"[0-9]{1,3}", setting) else unset
                if setting and not fixed[name] and number != read[name]:
                    log.warning(
                        "%s was trained with model.%s = %d and is sampled with %d: set it in the"
                        " config to see what was learnt", file, name, number, read[name],
                    )  # fmt: skip


def attach_loras(
    family: Family,
    parts: Parts,
    lora: Sequence[tuple[Path, float]],
    *,
    places: Sequence[FactorSource] = (),
    routed: bool = False,
) -> tuple[Factors | None, ...]:
    """Put LoRA files on the denoiser, side by side: each adds what it learned, nothing is rounded.

    Each file is loaded on the bare denoiser. Its layers are then stacked, one around the other
    where they meet, which sums them. DoRA rescales what is inside it: it goes innermost. A LoRA
    with a place acts there alone. Returns what each file's update is multiplied by, None for one
    that acts always and everywhere; with `routed` every file has such factors (ValueError for forms
    that cannot).
    """
    all_factors: list[Factors | None] = []
    denoiser, names = parts.denoiser, layer_names(family, parts.variant)
    assert denoiser is not None
    loaded: list[tuple[bool, dict[str, BaseTunerLayer]]] = []
    for index, (path, strength) in enumerate(lora):
        adapter.load(denoiser, path, prefix=family.lora_prefix, names=names, streams=family.streams)
        place = places[index] if index < len(places) else None
        if routed or place is not None:
            route(denoiser, family.streams).space = place
        all_factors.append(find_factors(denoiser))
        adapter.set_strength(denoiser, strength)
        count = len(adapter.trainable(denoiser))
        log.info("%s: %d tensors on the denoiser, strength %g", path, count, strength)
        layers = {
            name: layer
            for name, layer in denoiser.named_modules()
            if isinstance(layer, BaseTunerLayer)
        }
        is_plain = not any(
            getattr(layer, "lora_magnitude_vector", None) for layer in layers.values()
        )
        loaded.append((is_plain, layers))
        adapter.detach(denoiser)
    for _, layers in sorted(loaded, key=lambda entry: entry[0]):
        for name, layer in layers.items():
            parent, _, child = name.rpartition(".")
            around: nn.Module = denoiser.get_submodule(parent)
            layer.base_layer = getattr(around, child)
            setattr(around, child, layer)
    if any(factors is not None for factors in all_factors):
        connect(denoiser, family.streams)
    return tuple(all_factors)

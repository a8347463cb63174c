"""Rows of the banner about options of a training that are not as they come."""

from collections.abc import Iterator

from frisket.config.checks.control import has_control
from frisket.config.tree import Config, Lora
from frisket.runs.control.setup import describe_control, is_control_run
from frisket.runs.epochs import rates_of
from frisket.runs.image_adapters.setup import describe_adapter


def list_settings(config: Config) -> Iterator[tuple[str, str]]:
    """Options of the training that are not as they come, as pairs of name and value."""
    lora, chosen = config.lora, config.optimizer
    if config.model.train == "all":
        yield "trained", "all weights of the denoiser, in float32; no LoRA"
    if config.model.train == "image_adapter":
        yield "trained", describe_adapter(config)
    if has_control(config):
        yield "trained" if is_control_run(config) else "control", describe_control(config)
    if noise := _describe_layers(config):
        yield "noise", noise
    if chosen.schedule != "constant" or chosen.warmup:
        rates = rates_of(config)
        warming = f" after {rates.warming} steps of warm-up" if rates.warming else ""
        decaying = (
            f", {rates.decaying} of decay" if chosen.schedule == "warmup_stable_decay" else ""
        )
        yield "learning rate", f"{chosen.lr:g}, {chosen.schedule}{warming}{decaying}"
    if chosen.lora_plus:
        yield "LoRA+", f"B learns at {chosen.lora_plus:g} times the rate of A"
    yield from _list_adapter(lora)


def _list_adapter(lora: Lora) -> Iterator[tuple[str, str]]:
    """Options of the adapter that are not as they come."""
    if lora.conv_rank:
        yield "convolutions", f"rank {lora.conv_rank}, alpha {lora.conv_alpha or lora.conv_rank:g}"
    if lora.rank_schedule:
        by = "its quantile in training" if lora.rank_by == "quantile" else "t"
        yield (
            "ranks",
            f"{lora.rank_schedule}: {lora.least_rank} at pure noise to {lora.rank} by {by};"
            " programs other than Frisket apply all of them always",
        )
    if lora.orthogonal:
        yield "start", f"orthogonal; the file is a LoRA of rank {2 * lora.rank}"
    if lora.confine is not None:
        yield "confined", f"to the masks grown by {lora.confine} latent cells, while training"
    if lora.max_norm:
        yield "largest norm", f"{lora.max_norm:g} of each layer's update"


def _describe_layers(config: Config) -> str:
    """What the noise is besides plain; empty where it is."""
    noise, words = config.noise, []
    if noise.offset:
        words.append(f"offset {'up to ' if noise.offset_random else ''}{noise.offset:g}")
    if noise.multires_iterations:
        words.append(
            f"{noise.multires_iterations} coarser layers, each {noise.multires_discount:g} of the"
            " one before"
        )
    return "; ".join(words)

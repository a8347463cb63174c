"""What a LoRA says of its own making: the file's metadata and the card beside it."""

import html
import json
import re
from pathlib import Path, PureWindowsPath
from typing import Any

from frisket import __version__
from frisket.config.compat import normalise_of
from frisket.config.run_config import TRAINED
from frisket.config.tree import Config
from frisket.data.records import Prepared
from frisket.disk.atomic import replacing
from frisket.families.base import FAMILIES, TOKENS, Variant
from frisket.objectives.shift import LAWS, SizeShift
from frisket.runs.epochs import rates_of
from frisket.runs.image_adapters.results import describe_result, write_published_command


def variant_of(config: Config) -> str:
    """The variant a configuration trains, named or the family's first."""
    return config.model.variant or FAMILIES.load(config.model.family).default


def shift_of(config: Config, variant: Variant) -> float | SizeShift:
    """How far [timesteps] pushes towards noise: a number, or a law of the size."""
    shift = config.timesteps.shift
    if isinstance(shift, str):
        return variant.auto_shift if shift == "auto" else LAWS[shift]
    return shift


def publish_source(source: str) -> str:
    """A model's source as a file that is passed on may say it: a hub id, or a folder's own name.

    The rest of a path says whose home it lies in, and would make equal runs in two folders unequal.
    """
    local = Path(source).is_absolute() or PureWindowsPath(source).is_absolute()
    return PureWindowsPath(source).name if source and (local or Path(source).exists()) else source


def metadata_of(config: Config, prepared: Prepared, steps: int) -> dict[str, str]:
    """What the LoRA file says of its making; every value a string, as safetensors wants it.

    `frisket.*` is our own; `ss_*` is what kohya's trainers write and `modelspec.*` Stability's
    model metadata standard 1.0.1: UIs show base, rank, trigger and resolution from either. No time
    is in it, and of paths the last name alone, so that equal runs make equal files.
    """
    started = config.model_dump(mode="json", include={"regions", "curve", "swap", "mix", "losses"})
    family, variant = config.model.family, variant_of(config)
    card = FAMILIES.load(family).variants[variant]
    architecture = card.architecture or f"{family}-{variant}"
    width, height = _resolution(config, card)
    triggers = list(dict.fromkeys(data.trigger for data in config.data if data.trigger))
    source = publish_source(config.model.source)
    base = {"family": family, "variant": variant, "source": source}
    if config.swap.path is not None:
        started["swap"]["path"] = config.swap.path.name
    metadata = {
        "frisket.version": __version__,
        "frisket.base": json.dumps(base),
        "frisket.masks": json.dumps(started, sort_keys=True),
        "frisket.steps": str(steps),
        "frisket.data": prepared.digest,
        "ss_output_name": config.run.output.name,
        "ss_sd_model_name": source or card.repo,
        "ss_base_model_version": architecture,
        "ss_network_module": "frisket",
        "ss_network_dim": str(config.lora.rank),
        "ss_network_alpha": f"{config.lora.alpha or config.lora.rank:g}",
        "ss_network_dropout": str(config.lora.dropout),
        "ss_network_args": json.dumps({"kind": config.lora.kind} | _conv(config)),
        **_noise(config),
        "ss_steps": str(steps),
        "ss_max_train_steps": str(config.run.steps),
        "ss_learning_rate": str(config.optimizer.lr),
        "ss_lr_scheduler": config.optimizer.schedule,
        "ss_lr_warmup_steps": str(rates_of(config).warming),
        "ss_optimizer": config.optimizer.name,
        "ss_gradient_accumulation_steps": str(config.optimizer.accumulate),
        "ss_batch_size_per_device": str(config.run.batch),
        "ss_max_grad_norm": str(config.optimizer.clip),
        "ss_mixed_precision": {"float32": "no", "bfloat16": "bf16"}.get(
            config.run.precision, "fp16"
        ),
        "ss_seed": str(config.run.seed),
        "ss_num_train_items": str(prepared.report.clips),
        "ss_resolution": f"({width}, {height})",
        "ss_masked_loss": json.dumps(_describe_masks(config, prepared), sort_keys=True),
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": f"{architecture}/lora",
        "modelspec.implementation": "frisket",
        "modelspec.title": config.run.output.name,
        "modelspec.resolution": f"{width}x{height}",
    }
    # kohya's own words: UIs that show them tell the reader to set the same.
    if config.model.clip_skip > 1:
        metadata["ss_clip_skip"] = str(config.model.clip_skip)
    if config.model.max_tokens > TOKENS:
        metadata["ss_max_token_length"] = str(config.model.max_tokens)
    if config.control.source is not None and config.model.train == "lora":
        metadata["frisket.control"] = _describe_control(config)
    if triggers:
        metadata["modelspec.trigger_phrase"] = ", ".join(triggers)
        # Where kohya's files have their tags: UIs offer the most frequent ones as trigger words.
        counts = {word: prepared.report.clips for word in triggers}
        metadata["ss_tag_frequency"] = json.dumps({config.run.output.name: counts})
    return metadata


def _describe_control(config: Config) -> str:
    """Beside which ControlNet it was trained, and how; of a net that was trained how it began."""
    options = config.control
    entry: dict[str, Any] = {
        "source": options.source.name if options.source is not None else "",
        "confine": options.confine,
    }
    if config.model.train == "lora":
        entry |= {"dropout": options.drawn_dropout, "scale": list(options.drawn_scale)}
    return json.dumps(entry, sort_keys=True)


def _resolution(config: Config, card: Variant) -> tuple[int, int]:
    """Width and height trained at: the first data set's, or the variant's own."""
    resolution = config.data[0].resolution if config.data else None
    if resolution is None:
        return card.width, card.height
    return (resolution, resolution) if isinstance(resolution, int) else resolution


def _conv(config: Config) -> dict[str, str]:
    """As kohya's network_args say it."""
    rank, alpha = config.lora.conv_rank, config.lora.conv_alpha
    return {"conv_dim": str(rank), "conv_alpha": f"{alpha or rank:g}"} if rank else {}


def _noise(config: Config) -> dict[str, str]:
    """What kohya's files say of the noise, and of the limit to the norm, where it was not plain."""
    noise = config.noise
    metadata = {
        "ss_noise_offset": noise.offset,
        "ss_multires_noise_iterations": noise.multires_iterations,
        "ss_scale_weight_norms": config.lora.max_norm,
    }
    if noise.multires_iterations:
        metadata["ss_multires_noise_discount"] = noise.multires_discount
    return {name: f"{value:g}" for name, value in metadata.items() if value}


def _describe_masks(config: Config, prepared: Prepared) -> dict[str, Any]:
    """What the masks did: which regions at which weight, and how many clips had one."""
    report = prepared.report
    return {
        "regions": config.region_weights,
        "gamma": config.curve.gamma,
        "floor": config.curve.floor,
        "normalise": normalise_of(config),
        "compat": config.losses.compat,
        "swap_rate": config.swap.rate,
        "mix_rate": config.mix.rate,
        "clips": report.clips,
        "masked": report.masked,
    }


def _escape_markdown(text: str) -> str:
    """Words of a configuration or file name as Markdown that is text and nothing else."""
    line = " ".join(text.split())
    return re.sub(r"([\\`*_{}\[\]<>()#|~!])", r"\\\1", html.escape(line, quote=False))


def _list_mix_line(config: Config) -> list[str]:
    mix = config.mix
    if not mix.rate:
        return []
    return [
        f"- mixes: rate {mix.rate:g}, {mix.subjects} subjects, {mix.ground} ground,"
        f" {mix.space} space"
    ]


def describe_run(config: Config, prepared: Prepared, steps: int) -> dict[str, str]:
    """As `metadata_of`, of a run that trained all weights: nothing is said of a LoRA's form."""
    metadata = metadata_of(config, prepared, steps)
    for key in [key for key in metadata if key.startswith("ss_network_")]:
        del metadata[key]
    metadata["modelspec.architecture"] = metadata["modelspec.architecture"].removesuffix("/lora")
    return metadata


def describe_image_adapter(config: Config, prepared: Prepared, steps: int) -> dict[str, str]:
    """As `describe_run`, of a run that trained an image adapter; and what it was shown."""
    metadata, options = describe_run(config, prepared, steps), config.image_adapter
    metadata["modelspec.architecture"] += "/ip-adapter"
    references = {
        "references": options.references,
        "cut": options.cut,
        "region": options.region,
        "dropout": options.dropout,
        "confine": options.confine,
        "encoder": options.encoder.name if options.encoder is not None else "",
        "embedder": options.embedder,
    }
    metadata["frisket.references"] = json.dumps(references, sort_keys=True)
    return metadata


def describe_controlnet(config: Config, prepared: Prepared, steps: int) -> dict[str, str]:
    """As `describe_run`, of a run that trained a ControlNet; and how it began."""
    metadata = describe_run(config, prepared, steps)
    metadata["modelspec.architecture"] += "/controlnet"
    metadata["frisket.control"] = _describe_control(config)
    return metadata


def _describe_result(config: Config) -> str:
    """What was trained, and where it lies in the run's folder."""
    base = f"{config.model.family} {variant_of(config)}"
    if config.model.train == "all":
        return (
            f"All weights of {base}, trained with Frisket {__version__}. The model is the folder"
            " `model/`, in diffusers' layout: `model.source` takes it."
        )
    if config.model.train == "image_adapter":
        return _describe_image_adapter_result(config, base)
    if config.model.train == "controlnet":
        return (
            f"A ControlNet for {base}, trained with Frisket {__version__}, in diffusers' layout:"
            " the folder is `controlnet/`, and `frisket generate CONFIG --control PICTURE` samples"
            " with it."
        )
    net = "" if config.control.source is None else ", beside a frozen ControlNet"
    return (
        f"A {config.lora.kind} of rank {config.lora.rank} for {base}, trained with Frisket"
        f" {__version__}{net}."
    )


def _describe_image_adapter_result(config: Config, base: str) -> str:
    options = config.image_adapter
    pictures = {"self": "its own picture", "other": "a picture of another clip of its folder"}
    part = "a region of it alone, on grey" if options.cut else "the whole frame"
    result = describe_result(options.kind)
    encoder = options.encoder.name if options.encoder is not None else ""
    network = f"image encoder `{_escape_markdown(encoder)}`"
    if "embedder" in result.networks:
        part, network = "the face in it", f"embedder `{_escape_markdown(options.embedder)}`"
    place = "folder" if result.is_folder else "file"
    return (
        f"An image adapter ({options.kind}) for {base}, trained with Frisket {__version__}: the"
        f" {place} is `{result.path.as_posix()}`. Each clip was shown"
        f" {pictures[options.references]} ({part}); give it pictures of the same sort, through the"
        f" {network} that it was trained with, from this folder:\n\n"
        f"    {write_published_command(config, TRAINED)}"
    )


def write_card(config: Config, prepared: Prepared, path: Path, *, routing: str = "") -> None:
    """A short model card beside the LoRA, or the model; `routing` is what came of that."""
    report = prepared.report
    weights = ", ".join(
        f"{_escape_markdown(name)} {weight:g}" for name, weight in config.region_weights.items()
    )
    terms = ", ".join(
        f"{_escape_markdown(name)} {table['strength']:g}"
        for name, table in config.losses.terms.items()
    )
    lines = [
        f"# {_escape_markdown(config.run.output.name)}",
        "",
        _describe_result(config),
        "",
        f"- steps {config.run.steps}, batch {config.run.batch} x {config.optimizer.accumulate},"
        f" {_escape_markdown(config.optimizer.name)} at {config.optimizer.lr:g},"
        f" seed {config.run.seed}",
        f"- clips {report.clips}, with masks {report.masked}, held out {len(prepared.held)}",
        f"- region weights: {weights}; background {config.region_weights.get('background', 0.0):g}",
        f"- losses: {terms}; normalise = {normalise_of(config)}"
        + (f", as {config.losses.compat}" if config.losses.compat else ""),
        f"- background swap: rate {config.swap.rate:g}"
        + (f", source {config.swap.source}, {config.swap.space} space" if config.swap.rate else ""),
        *_list_mix_line(config),
        *([f"- token routing: {_escape_markdown(routing)}"] if routing else []),
        f"- data: {prepared.digest}",
        "",
    ]
    with replacing(path) as draft:
        draft.write_text("\n".join(lines), encoding="utf-8", errors="backslashreplace")

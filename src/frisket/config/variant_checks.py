"""What a configuration asks of a model that the chosen variant cannot do."""

from collections.abc import Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING

from frisket.config.checks.all_weights import find_all_weights_problems
from frisket.config.checks.control import find_control_problems
from frisket.config.checks.control_data import find_control_data_problems
from frisket.config.checks.image_adapter import find_image_adapter_problems
from frisket.config.checks.patch_masking import find_patch_masking_problems
from frisket.config.error_messages import or_all
from frisket.config.provenance import Key
from frisket.config.tree import Config, Data
from frisket.disk.untrusted import show
from frisket.media.manifest import is_manifest

if TYPE_CHECKING:
    from frisket.families.base import Family, Variant


def variant_problems(config: Config, family: "Family") -> Iterator[tuple[Key, str]]:
    """Key and sentence of everything the variant cannot do."""
    name = config.model.variant or family.default
    variant = family.variants[name]
    label = f"{family.name} {name}"
    experts = config.model.experts
    if experts != "both" and experts not in variant.experts:
        yield (
            ("model", "experts"),
            f"{label} is one denoiser, it has no {experts} expert; leave model.experts out",
        )
    kind = config.memory.quantise
    if kind != "none" and not variant.quantises:
        yield ("memory", "quantise"), f"{label} is not quantised; leave memory.quantise out"
    yield from find_all_weights_problems(config, variant, label)
    yield from find_image_adapter_problems(config, variant, label)
    yield from find_control_problems(config, variant, label)
    yield from find_patch_masking_problems(config, family, label)
    yield from find_control_data_problems(config)
    yield from _reading_problems(config, variant, label)
    yield from _data_problems(config, variant, label)
    try:
        targets_of(config, family, name)
    except ValueError as error:
        yield ("lora", "preset" if "preset" in str(error) else "conv_rank"), str(error)
        return
    yield from _format_problems(config, family, name)
    try:
        family.objective(
            name, weighting=config.timesteps.weighting, min_snr=config.timesteps.min_snr
        )
    except ValueError as error:
        yield ("timesteps",), str(error)


def _reading_problems(config: Config, variant: "Variant", label: str) -> Iterator[tuple[Key, str]]:
    model = config.model
    if model.clip_skip and not variant.clip_skip:
        yield (
            ("model", "clip_skip"),
            f"{label} reads the layer of its text encoder that it was trained on, and no other;"
            " leave model.clip_skip out",
        )
    if model.max_tokens > variant.max_tokens:
        yield (
            ("model", "max_tokens"),
            f"{label} reads prompts as long as its public pipeline does, not in pieces of 75"
            " tokens; leave model.max_tokens out",
        )


def targets_of(
    config: Config, family: "Family", variant: str
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Which layers the adapter goes on: targets, and what of them never learns.

    ValueError for a preset, or for convolutions, that the family does not have.
    """
    from frisket.families.base import choose_targets  # noqa: PLC0415 - torch, only when asked for

    chosen, conv = config.lora, config.lora.conv_rank > 0
    targets, dead = choose_targets(family, variant, preset=chosen.preset, conv=conv)
    if not chosen.targets:
        return targets, dead
    return (*chosen.targets, *(family.lora_conv if conv else ())), ()


def optimizer_problems(config: Config) -> Iterator[tuple[Key, str]]:
    """What speaks against `optimizer.name`: a name that is none, a module nobody vouched for.

    An alias is known to work, but not with every other option. A path is tried where its package
    is installed; where it is not, only training needs it, and says so.
    """
    chosen, limit = config.optimizer, config.lora.max_norm
    from frisket.training import optim, optim_probe  # noqa: PLC0415 - torch, only when asked for

    known = chosen.name in optim.ALIASES
    if known and not (chosen.lora_plus or limit):
        return
    if not known and "." not in chosen.name:
        yield (
            ("optimizer", "name"),
            f"no optimizer is named {show(chosen.name)}{or_all(chosen.name, list(optim.ALIASES))};"
            " set optimizer.name, and with it optimizer.lr: a rate is that of one optimizer",
        )
        return

    if (module := optim_probe.find_import(chosen.name)) and not chosen.trust:
        yield (
            ("optimizer", "name"),
            f"`optimizer.name` = {show(chosen.name)} would import the module {show(module)}, and"
            " so run it; if you trust it, set `optimizer.trust = true`, else take one of"
            f" {', '.join(sorted(optim.ALIASES))}",
        )
        return
    try:
        top = chosen.name.partition(".")[0]
        if "." in chosen.name and top.isidentifier() and find_spec(top) is None:
            return
        spec = optim.OptimizerSpec(
            chosen.name, chosen.lr, chosen.weight_decay, chosen.options, chosen.lora_plus
        )
        optim_probe.probe(spec, max_norm=limit)
    except ValueError as error:  # BadOptimizer, or a name that is no module's
        yield ("optimizer", "name"), str(error)


def attention_problems(config: Config) -> Iterator[tuple[Key, str]]:
    """What speaks against `memory.attention`: no gradient, or a package that is not here."""
    if not config.memory.attention:
        return
    from frisket.training.memory.precision import check_attention  # noqa: PLC0415 - torch, when asked for

    try:
        check_attention(config.memory.attention)
    except ValueError as error:
        yield ("memory", "attention"), str(error)


def _data_problems(config: Config, variant: "Variant", label: str) -> Iterator[tuple[Key, str]]:
    sets: list[tuple[Key, Data]] = [
        (("data", number), data) for number, data in enumerate(config.data)
    ]
    sets += [(("validation", "data", n), data) for n, data in enumerate(config.validation.data)]
    yield from _find_composite_problems(config, variant, label)
    for key, data in sets:
        yield from _reference_problems(data, key, variant, label)
        yield from _role_problems(data, key, variant, label)


def _find_composite_problems(
    config: Config, variant: "Variant", label: str
) -> Iterator[tuple[Key, str]]:
    """Composites of latents, and mixes, where the model is shown pictures besides the text."""
    if config.swap.rate and config.swap.space == "latent" and variant.sees != "nothing":
        yield (
            ("swap", "space"),
            f"{label} is shown the picture it starts from, which a composite of latents does not"
            ' have; set swap.space = "pixel"',
        )
    if not config.mix.rate:
        return
    if variant.sees == "pictures":
        yield (
            ("mix", "rate"),
            f"{label} edits pictures, and they would still show one subject; leave [mix] out",
        )
    elif config.mix.space == "latent" and variant.sees != "nothing":
        yield (
            ("mix", "space"),
            f"{label} is shown the picture it starts from, which a composite of latents does not"
            ' have; set mix.space = "pixel"',
        )
    for number, data in enumerate(config.data):
        if data.mask_role != "loss":
            yield (
                ("data", number, "mask_role"),
                "the model would be shown what this clip's own mask leaves free, not that of a mix;"
                ' use mask_role = "loss", or leave [mix] out',
            )


def _reference_problems(
    data: Data, key: Key, variant: "Variant", label: str
) -> Iterator[tuple[Key, str]]:
    pictures = variant.sees == "pictures"
    if pictures and data.references is None and not is_manifest(data.clips):
        yield (
            (*key, "references"),
            f"{label} edits pictures: give `references`, the folder of what it starts from"
            " (name.png for each clip)",
        )
    if data.references is not None and variant.sees == "nothing":
        yield (
            (*key, "references"),
            f"{label} looks at no reference pictures; leave `references` out",
        )


def _role_problems(
    data: Data, key: Key, variant: "Variant", label: str
) -> Iterator[tuple[Key, str]]:
    if data.mask_role != "loss" and variant.sees != "first_frame":
        yield (
            (*key, "mask_role"),
            f'{label} has no mask channels of its own; use mask_role = "loss", or an'
            " image-to-video variant",
        )
    if data.mask_role != "loss" and data.masks.source == "none":
        yield (
            (*key, "mask_role"),
            "a mask cannot be a condition where there is none: give `masks`",
        )


def _format_problems(config: Config, family: "Family", variant: str) -> Iterator[tuple[Key, str]]:
    """What of the adapter the files of `lora.format` cannot hold."""
    # torch, only when asked for
    from frisket.adapters.forms import check_form  # noqa: PLC0415
    from frisket.adapters.spec import AdapterMismatch  # noqa: PLC0415
    from frisket.families.base import layer_names  # noqa: PLC0415

    chosen = config.lora
    try:
        names = layer_names(family, variant)
        check_form(names, chosen.kind, chosen.format, _list_adapted(config, family, variant))
    except AdapterMismatch as error:
        yield ("lora", "format"), f"{family.name} {variant}: {error}"


def _list_adapted(config: Config, family: "Family", variant: str) -> tuple[str, ...]:
    """Where the adapter goes, from the model's shape; none where that is not known here.

    A plain LoRA on a family's own layers fits all its formats, and on those of its blocks ComfyUI's
    names, so no model is built for it (nor its shape asked of the hub). What is wrong with targets
    is said when they are put on the model.
    """
    from frisket.adapters.targets import LAYERS, resolve  # noqa: PLC0415
    from frisket.families.base import Source, WeightsNotFound  # noqa: PLC0415
    from frisket.families.experts import experts_of  # noqa: PLC0415

    chosen, model = config.lora, config.model
    within = not chosen.preset or (chosen.preset != "full" and chosen.format == "comfyui")
    plain = chosen.kind == "lora" and not (chosen.targets or chosen.conv_rank) and within
    if chosen.format == "diffusers" or plain:
        return ()
    layers = LAYERS[:3] if chosen.kind in ("loha", "lokr") else LAYERS
    try:
        targets, dead = targets_of(config, family, variant)
        shapes = family.load_denoiser(
            Source(variant, model.source, revision=model.revision, device="meta")
        )
        return resolve(
            next(iter(experts_of(shapes).values())),
            targets,
            chosen.exclude,
            layers,
            dead=dead,
        )
    except (WeightsNotFound, ValueError, OSError):
        return ()

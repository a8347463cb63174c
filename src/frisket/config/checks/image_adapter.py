"""What does not go with training an image adapter (`[image_adapter]`)."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from frisket.config.checks.lora_options import find_lora_options
from frisket.config.image_adapter.tables import FACE_KINDS
from frisket.config.provenance import Key
from frisket.config.tree import Config
from frisket.registry import suggest

if TYPE_CHECKING:
    from frisket.families.base import Variant

TRAINED = 'model.train = "image_adapter"'


def find_image_adapter_problems(
    config: Config, variant: "Variant", label: str
) -> Iterator[tuple[Key, str]]:
    """Key and sentence of all that speaks against it; of its options where none is trained."""
    if config.model.train != "image_adapter":
        for name, field in type(config.image_adapter).model_fields.items():
            if getattr(config.image_adapter, name) != field.default:
                yield (
                    ("image_adapter", name),
                    f"`image_adapter.{name}` is of an image adapter, and none is trained: set"
                    f" {TRAINED}, or leave it out",
                )
        return
    yield from find_lora_options(config, TRAINED)
    yield from _find_table_problems(config)
    yield from _find_memory_problems(config)
    if variant.experts:
        yield (
            ("model", "train"),
            f"{label} is {len(variant.experts)} denoisers, and an image adapter is for one: train a"
            ' LoRA (model.train = "lora"), or take a variant of one denoiser',
        )
    if config.mix.rate > 0:
        yield (
            ("mix", "rate"),
            f"`mix.rate` = {config.mix.rate:g}: a mix has subjects of several clips, and the"
            " picture that is shown is of one; with an image adapter leave it out",
        )
    if config.routing.background < 1:
        yield (
            ("routing", "background"),
            f"`routing.background` = {config.routing.background:g}: tokens that pass by a block"
            " also pass by its attention to the picture; with an image adapter set it to 1",
        )


def _find_table_problems(config: Config) -> Iterator[tuple[Key, str]]:
    options = config.image_adapter
    if options.kind in FACE_KINDS:
        yield from _find_face_problems(config)
    elif options.encoder is None:
        yield (
            ("image_adapter", "encoder"),
            f"`image_adapter.encoder` is not set, and kind = {options.kind!r} reads pictures by"
            " one: give the folder of a CLIP image encoder (models/image_encoder of h94/IP-Adapter"
            " on Hugging Face is what public files were trained with)",
        )
    if options.region and options.region not in config.region_weights:
        hint = suggest(options.region, list(config.region_weights))
        yield (
            ("image_adapter", "region"),
            f"`image_adapter.region` = {options.region!r} is not in [regions]{hint}",
        )


def _find_face_problems(config: Config) -> Iterator[tuple[Key, str]]:
    """Networks are named by the user: none is a default, for most are not free for any use."""
    kind = config.image_adapter.kind
    embedder = "iresnet is the one" if kind.startswith("uniid") else "sface is free for any use"
    for name, hint in (("embedder", embedder), ("detector", "yunet is free for any use")):
        if not getattr(config.image_adapter, name):
            yield (
                ("image_adapter", name),
                f'`image_adapter.{name}` is not set, and kind = "{kind}" reads faces by one: name'
                f" it (`frisket methods` lists them; {hint}), and give its file as"
                f" image_adapter.{name}_source",
            )


def _find_memory_problems(config: Config) -> Iterator[tuple[Key, str]]:
    if config.memory.compile:
        yield (
            ("memory", "compile"),
            f"`memory.compile` would freeze what the model is shown, and with {TRAINED} that is"
            " another picture in each step: set it to false",
        )

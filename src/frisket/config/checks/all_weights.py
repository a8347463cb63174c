"""What does not go with training all weights of the denoiser (`model.train = "all"`)."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from frisket.config.checks.lora_options import find_lora_options
from frisket.config.checks.term_needs import list_term_needs
from frisket.config.provenance import Key
from frisket.config.tree import Config

if TYPE_CHECKING:
    from frisket.families.base import Variant

ALL = 'model.train = "all"'


def find_all_weights_problems(
    config: Config, variant: "Variant", label: str
) -> Iterator[tuple[Key, str]]:
    """Key and sentence of everything that all weights cannot be trained with; none for a LoRA."""
    if config.model.train != "all":
        return
    yield from find_lora_options(config, ALL)
    yield from _find_memory_problems(config)
    yield from _find_teacher_problems(config)
    if config.model.dtype != "float32":
        yield (
            ("model", "dtype"),
            f"`model.dtype` = {config.model.dtype!r}: with {ALL} the weights that are updated are"
            " float32, or small updates would be rounded away; leave model.dtype out and set"
            ' run.precision = "bfloat16" to compute in less',
        )
    if variant.experts:
        yield (
            ("model", "train"),
            f"{label} is {len(variant.experts)} denoisers, and {ALL} is for one: train a LoRA"
            ' (model.train = "lora"), or take a variant of one denoiser',
        )


def _find_memory_problems(config: Config) -> Iterator[tuple[Key, str]]:
    """Switches of [memory] that are for frozen weights: with all trained there are none."""
    memory = config.memory
    switches: dict[str, tuple[Any, Any, str]] = {
        "quantise": (memory.quantise, "none", "holds frozen weights in fewer bits"),
        "storage": (memory.storage, "same", "holds frozen weights in 8 bits"),
        "swap_blocks": (memory.swap_blocks, 0, "lets frozen weights wait on the CPU"),
    }
    for name, (value, off, meaning) in switches.items():
        if value != off:
            yield (
                ("memory", name),
                f"`memory.{name}` = {value!r} {meaning}, and with {ALL} none is frozen: leave it"
                ' out (memory.checkpointing and optimizer.name = "adamw8bit" save memory here)',
            )


def _find_teacher_problems(config: Config) -> Iterator[tuple[Key, str]]:
    """Terms that hold the model to its base, which is not there any more once weights move."""
    from frisket.losses.base import BASE  # noqa: PLC0415 - torch, only when asked for

    for name, needs in list_term_needs(config):
        if BASE in needs:
            yield (
                ("losses", name),
                f"`losses.{name}` asks what the base predicts, and with {ALL} that would take a"
                f" second model beside the one that is trained: set losses.{name} = 0, or its"
                ' teacher = "ema" with optimizer.ema (the averaged model instead of the base)',
            )

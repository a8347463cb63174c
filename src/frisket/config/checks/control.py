"""What does not go with a ControlNet (`[control]`), beside a LoRA or trained itself."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from frisket.config.checks.lora_options import find_lora_options
from frisket.config.checks.term_needs import list_term_needs
from frisket.config.control.tables import Control
from frisket.config.provenance import Key
from frisket.config.tree import Config, Data

if TYPE_CHECKING:
    from frisket.families.base import Variant

TRAINED = 'model.train = "controlnet"'
READS_CONTROL = "control"  # need of a term that looks at control pictures itself


def has_control(config: Config) -> bool:
    """Whether a run has a ControlNet, frozen or trained."""
    return config.control.source is not None or config.model.train == "controlnet"


def find_control_problems(
    config: Config, variant: "Variant", label: str
) -> Iterator[tuple[Key, str]]:
    """Key and sentence of all that speaks against a ControlNet; of its options where none is."""
    yield from _find_data_problems(config)
    if not has_control(config):
        for name, field in Control.model_fields.items():
            if getattr(config.control, name) != field.default:
                yield (
                    ("control", name),
                    f"`control.{name}` is of a ControlNet, and there is none: set control.source"
                    f" to its folder, or {TRAINED}, or leave it out",
                )
        return
    if config.model.train == "controlnet":
        yield from _find_trained_problems(config, variant, label)
    else:
        yield from _find_beside_problems(config)
    yield from _find_token_problems(config)
    if config.memory.compile:
        yield (
            ("memory", "compile"),
            "`memory.compile` was not shown to go with a ControlNet, which adds to what blocks"
            " make: set it to false",
        )


def list_data_sets(config: Config) -> Iterator[tuple[Key, Data]]:
    """The data sets of a run and of its validation, with their keys."""
    for number, data in enumerate(config.data):
        yield ("data", number), data
    for number, data in enumerate(config.validation.data):
        yield ("validation", "data", number), data


def _find_data_problems(config: Config) -> Iterator[tuple[Key, str]]:
    """Control pictures that nothing reads, and a ControlNet that is shown none."""
    reads_itself = any(READS_CONTROL in needs for _, needs in list_term_needs(config))
    tables = list(list_data_sets(config))
    have = [data.control is not None for _, data in tables]
    for key, data in tables:
        if data.control is not None and not (has_control(config) or reads_itself):
            yield (
                (*key, "control"),
                f"the control pictures beside {data.clips} are read by nothing: set control.source"
                f" to the folder of a ControlNet, or {TRAINED}, or leave them out",
            )
        # Where some have them and some have not, `control_data` says so.
        if has_control(config) and not any(have):
            yield (
                (*key, "control"),
                f"{data.clips} has no control pictures, and a ControlNet is shown one beside each"
                " clip: set `control` to their folder (`frisket control make` makes them)",
            )


def _find_trained_problems(
    config: Config, variant: "Variant", label: str
) -> Iterator[tuple[Key, str]]:
    yield from find_lora_options(config, TRAINED)
    options, memory = config.control, config.memory
    for name in ("dropout", "scale"):
        if getattr(options, name) is not None:
            yield (
                ("control", name),
                f"`control.{name}` is for a frozen ControlNet beside a LoRA; with {TRAINED} each"
                " draw has its control in full: leave it out",
            )
    if options.source is not None and options.layers is not None:
        yield (
            ("control", "layers"),
            f"`control.layers` is what {options.source.name} has: leave it out",
        )
    if options.source is None and memory.quantise != "none":
        yield (
            ("memory", "quantise"),
            f"`memory.quantise` = {memory.quantise!r}: a ControlNet begins with copies of the"
            " base's blocks, which quantised weights do not give; leave it out, or go on from a"
            " ControlNet (control.source)",
        )
    if variant.experts:
        yield (
            ("model", "train"),
            f"{label} is {len(variant.experts)} denoisers, and a ControlNet is trained beside one:"
            ' train a LoRA (model.train = "lora"), or take a variant of one denoiser',
        )
    if "attention" in config.losses.terms:
        yield (
            ("losses", "attention"),
            f"`losses.attention` steers the base's own attention, which with {TRAINED} is frozen:"
            " set losses.attention = 0",
        )


def _find_beside_problems(config: Config) -> Iterator[tuple[Key, str]]:
    if config.model.train != "lora":
        yield (
            ("control", "source"),
            f"`control.source` is for a LoRA, and model.train = {config.model.train!r}: leave it"
            f' out, or set model.train = "lora" (a ControlNet is trained with {TRAINED})',
        )
    if config.control.layers is not None:
        yield (
            ("control", "layers"),
            f"`control.layers` is of a ControlNet that is trained from the base ({TRAINED}): leave"
            " it out",
        )


def _find_token_problems(config: Config) -> Iterator[tuple[Key, str]]:
    """Tokens that pass by blocks are not there for what is added after these."""
    if config.routing.background < 1:
        yield (
            ("routing", "background"),
            f"`routing.background` = {config.routing.background:g}: a ControlNet adds to every"
            " token after a block, and some would have passed by it; set it to 1",
        )
    if config.patch_masking.ratio > 0:
        yield (
            ("patch_masking", "ratio"),
            f"`patch_masking.ratio` = {config.patch_masking.ratio:g}: a ControlNet adds to every"
            " token, and some would be left out; set it to 0",
        )

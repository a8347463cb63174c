"""What does not go with leaving tokens out (`[patch_masking]`), and what only goes with it."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from frisket.config.checks.term_needs import list_term_needs
from frisket.config.provenance import Key
from frisket.config.tree import Config

if TYPE_CHECKING:
    from frisket.families.base import Family

RATIO: Key = ("patch_masking", "ratio")


def find_patch_masking_problems(
    config: Config, family: "Family", label: str
) -> Iterator[tuple[Key, str]]:
    """Key and sentence of everything that tokens cannot be left out with."""
    model, ratio = config.model, config.patch_masking.ratio
    if family.leaves_out_tokens and model.train == "lora" and not model.source:
        yield (
            ("model", "source"),
            f"there are no released weights of {label}: set model.source to the model/ of an"
            ' earlier run for a LoRA, or model.train = "all" to begin from random weights',
        )
    if not ratio:
        if "reconstruction" in config.losses.terms:
            yield (
                ("losses", "reconstruction"),
                "`losses.reconstruction` is of tokens that were left out, and none are: set"
                " patch_masking.ratio (0.5 is MaskDiT's), or leave losses.reconstruction out",
            )
        return
    setting = f"`patch_masking.ratio` = {ratio:g}"
    if not family.leaves_out_tokens:
        way = "use [routing], by which" if family.routes is not None else "leave it out: not even"
        yield (
            RATIO,
            f"{setting}: {label} cannot leave tokens out from its first block on; {way} tokens"
            " without weight pass by its middle blocks",
        )
        return
    if config.routing.background < 1:
        yield (
            RATIO,
            f"{setting} and routing.background = {config.routing.background:g}: tokens are left out"
            " by one of them; leave the other out",
        )
    if model.train != "all":
        yield (
            RATIO,
            f"{setting} teaches the decoder what to put in place of a token, which a LoRA does not"
            ' train: set model.train = "all", or patch_masking.ratio = 0',
        )
    yield from _list_term_problems(config, setting)


def _list_term_problems(config: Config, setting: str) -> Iterator[tuple[Key, str]]:
    """Terms that look where tokens may never be."""
    from frisket.losses.base import ATTENTION, EMA  # noqa: PLC0415 - torch, when asked for

    for name, needs in list_term_needs(config):
        if ATTENTION in needs:
            yield (
                ("losses", name),
                f"`losses.{name}` reads the attention of all cells, and with {setting} some are"
                f" left out: set losses.{name} = 0, or patch_masking.ratio = 0",
            )
        if EMA in needs and config.patch_masking.zero_weight_first:
            yield (
                ("losses", name),
                f"`losses.{name}` holds the cells without weight, and with {setting} these may"
                " never be there: set patch_masking.zero_weight_first = false",
            )

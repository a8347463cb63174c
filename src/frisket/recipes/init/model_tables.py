"""The part of `frisket init` that depends on the model alone: its tables, precision and memory."""

from typing import Any

import tomlkit
from tomlkit.items import Table

from frisket.config.tree import Run
from frisket.families.base import FAMILIES
from frisket.families.listing import size_of
from frisket.families.suggestions import Suggestions
from frisket.recipes.init.model_choice import Recipe

LARGE = 1.5e9  # parameters: above, a denoiser in bfloat16 asks for more than a small card has
HUGE = 8e9  # above, it does not fit 16 GB, and hardly 24


def build_model(family: str, name: str) -> Table:
    """`[model]`: which, from where, in what precision, and which experts."""
    shelf = FAMILIES.load(family)
    variant = shelf.variants[name]
    other_families = [other for other in FAMILIES.names() if other != family]
    table = tomlkit.table()
    _add(table, "family", family, f"there are also: {', '.join(other_families)}")
    siblings = [other for other in shelf.variants if other != name]
    _add(table, "variant", name, f"there are also: {', '.join(siblings)}" if siblings else "")
    _add(table, "source", "", f"folder, file or hub id; empty takes {variant.repo}")
    if shelf.leaves_out_tokens:
        _add(table, "train", "all", "there are no released weights: a run begins from random ones")
    if variant.experts:
        both_comment = (
            f"one LoRA for each; or {' or '.join(repr(expert) for expert in variant.experts)} alone"
        )
        _add(table, "experts", "both", both_comment.replace("'", '"'))
    if settings := suggest_precision(shelf.suggestions):
        _add(
            table, "dtype", settings["precision"], "of the frozen base; the LoRA trains in float32"
        )
    return table


def build_scratch() -> dict[str, Table]:
    """Sections of a model that is trained from nothing on a part of its tokens (docs/maskdit)."""
    masking, losses, optimizer = tomlkit.table(), tomlkit.table(), tomlkit.table()
    _add(masking, "ratio", 0.5, "share of the tokens that are left out: about half the cost")
    _add(losses, "denoise", 1.0, "the error of what is seen, inside the mask")
    _add(losses, "reconstruction", 0.1, "and of what is left out")
    _add(optimizer, "lr", 1e-3, "of a small model; 1e-4 for a large one")
    _add(optimizer, "warmup", 100, "")
    return {"patch_masking": masking, "losses": losses, "optimizer": optimizer}


def suggest_precision(suggested: Suggestions) -> dict[str, Any]:
    """What `[run]` says of it; {} for the configuration's own default."""
    precision = suggested.precision
    return {} if precision == Run.model_fields["precision"].default else {"precision": precision}


def build_memory(family: str, name: str, file: str, recipe: Recipe | None) -> Table | None:
    """`[memory]` of a large model; None for small ones, and where its size is not known here.

    As the recipe for the card at hand has it, where there is one.
    """
    shelf = FAMILIES.load(family)
    size = size_of(shelf, name)
    if size is None or size.count < LARGE:
        return None
    table = tomlkit.table()
    part = "each of its experts" if shelf.variants[name].experts else "its denoiser"
    table.add(tomlkit.comment(f"{part.capitalize()} is {size} in bfloat16."))
    table.add(tomlkit.comment(f"What fits your card: frisket doctor {file}; docs/families.md."))
    memory = recipe.memory if recipe else {}
    if recipe and recipe.peak is not None:
        peak = f"With what stands here training peaks at {recipe.peak:.1f} GiB, as predicted."
        table.add(tomlkit.comment(peak))
    kind = memory.get("quantise", "none") if recipe else "nf4" if size.count >= HUGE else "none"
    comment = '"none"; "int8", "fp8" (torchao); "nf4", 4 bits a weight (bitsandbytes)'
    _add(table, "quantise", kind, comment)
    _add(
        table,
        "checkpointing",
        True,
        "activations are computed again, not kept: slower, much smaller",
    )
    swapped = memory.get("swap_blocks", 0)
    _add(table, "swap_blocks", swapped, "so many of its blocks wait on the CPU; slower")
    if shelf.variants[name].video:
        _add(table, "tile_vae", memory.get("tile_vae", False), "encode and decode in tiles; slower")
    return table


def _add(table: Table, key: str, value: Any, comment: str) -> None:
    item = tomlkit.item(value)  # a table hands out plain booleans, which take no comment
    table.add(key, item.comment(comment) if comment else item)

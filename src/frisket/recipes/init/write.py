"""`frisket init`: looks at a folder of clips and writes a commented config that fits it."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.items import InlineTable, Table

from frisket.config.composites.tables import Swap
from frisket.config.data import PRESETS
from frisket.config.load import ConfigError, check, read
from frisket.config.presets.facts import find_facts
from frisket.config.presets.plan import PresetPlan, list_presets, plan_preset
from frisket.disk.atomic import replacing
from frisket.families.base import FAMILIES, Variant
from frisket.families.suggestions import Suggestions
from frisket.grid import LatentGrid
from frisket.inspection.dataset_scan import DatasetScan, scan_dataset
from frisket.media.folders.rejecting import list_place
from frisket.media.manifest import is_manifest
from frisket.recipes.init.model_choice import ModelChoice, Recipe, choose, find_recipe, measure_card
from frisket.recipes.init.model_tables import (
    build_memory,
    build_model,
    build_scratch,
    suggest_precision,
)
from frisket.recipes.init.preset_values import name_preset, write_values
from frisket.registry import suggest

UNNAMED = "a photo of sks"  # where no caption names the subject
REFERENCES = ("references", "reference", "controls", "control", "sources", "source")
HEAD = """Frisket: teach the model this, and only this.
Every key: docs/reference/config.md (or `frisket schema` for your editor).
Look at the masks first: frisket inspect {name}
then: frisket train {name}"""


def init(
    folder: Path, output: Path, *, family: str = "", variant: str = "", preset: str = ""
) -> list[str]:
    """Write a config for the clips, masks and captions under `folder`; returns what was found.

    `family` empty takes what suits the clips and fits the card at hand (`model_choice`); `variant`
    empty the family's first that makes what the clips are. `preset` is written in full, each value
    with its reason. Raises
    ConfigError where `output` exists, where there is no such family, variant or preset, or the
    preset has no meaning for them, and the errors of `scan_dataset`.
    """
    if output.exists() or output.is_symlink():
        raise ConfigError(f"{output} exists and is not overwritten; name another file with -o")
    scan = scan_dataset(folder)
    room = measure_card()
    choice = ModelChoice(family, "", None) if family else choose(scan, room)
    family = choice.family
    if family not in FAMILIES.names():
        raise ConfigError(f"no family is named {family!r}{suggest(family, FAMILIES.names())}")
    name = variant or choice.variant or _choose_variant(scan, FAMILIES.load(family).variants)
    if name not in FAMILIES.load(family).variants:
        variants = list(FAMILIES.load(family).variants)
        raise ConfigError(f"{family} has no variant {name!r}{suggest(name, variants)}")
    recipe = choice.recipe or find_recipe(family, name, room)
    plan = _plan_preset(preset, family, name, scan) if preset else None
    document = _build_document(scan, family, name, output, recipe, plan)
    _write(output, tomlkit.dumps(document))
    left_out = plan.tell_left_out() if plan else ()
    return [*_summarise(scan, family, name), *left_out, *choice.messages]


def _plan_preset(preset: str, family: str, variant: str, scan: DatasetScan) -> PresetPlan:
    if preset not in list_presets():
        raise ConfigError(f"no preset is named {preset!r}{suggest(preset, list(list_presets()))}")
    try:
        masks = scan.masks.kind != "none"
        return plan_preset(preset, find_facts(family, variant), masks=masks)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _choose_variant(scan: DatasetScan, variants: Mapping[str, Variant]) -> str:
    """The first variant that makes clips where there are videos, else the first there is."""
    fitting = [name for name, variant in variants.items() if variant.video or not scan.videos]
    return (fitting or list(variants))[0]


def _write(output: Path, text: str) -> None:
    """Write and read back under a temporary name: what stands under `output` is a good config."""
    with replacing(output) as partial:
        partial.write_text(text, encoding="utf-8")
        check(*read(partial))


def _summarise(scan: DatasetScan, family: str, variant: str) -> list[str]:
    kind = f"{scan.count} clips ({scan.videos} videos)" if scan.videos else f"{scan.count} images"
    lines = [f"{scan.clips}: {kind}, about {scan.width} x {scan.height} pixels"]
    if scan.masks.kind == "none":
        lines.append("no masks found: every clip will teach everywhere")
    else:
        folders = () if scan.masks.kind == "listed" else scan.masks.folders.values()
        folder_names = ", ".join(map(str, folders)) or scan.clips
        lines.append(
            f"masks ({scan.masks.kind}): {scan.masks.matched} of {scan.count}, in {folder_names}"
        )
    if scan.orphans:
        lines.append(f"{len(scan.orphans)} masks have no clip, {scan.orphans[0]} among them")
    lines += scan.hints
    default_place = "in the manifest" if is_manifest(scan.clips) else "beside the clips"
    source = scan.captions or default_place
    lines.append(f"captions ({source}): {scan.captioned} of {scan.count}")
    lines.append(f"model: {family} {variant}")
    return lines


def _build_document(
    scan: DatasetScan,
    family: str,
    name: str,
    output: Path,
    recipe: Recipe | None,
    plan: PresetPlan | None,
) -> tomlkit.TOMLDocument:
    shelf = FAMILIES.load(family)
    variant, suggested = shelf.variants[name], shelf.suggestions
    document = tomlkit.document()
    for line in HEAD.format(name=output.name).splitlines():
        document.add(tomlkit.comment(line))
    if plan:
        name_preset(document, plan)
    document["model"] = build_model(family, name)
    data = tomlkit.aot()
    data.append(_build_data(scan, variant, output.absolute().parent, recipe))
    document["data"] = data
    document["regions"] = _build_regions(scan)
    if shelf.leaves_out_tokens:
        document.update(build_scratch())
    else:
        swaps = variant.sees != "pictures" and not (plan and plan.has_value(("swap", "rate"), 0.0))
        document.update(_build_training(scan, variant, suggested, swaps=swaps))
    document["validation"] = _build_validation(scan)
    document["preview"] = _build_preview(scan, suggested, variant)
    if limits := build_memory(family, name, output.name, recipe):
        document["memory"] = limits
    run = {"output": f"runs/{_make_slug(scan.clips)}", "steps": 1500, "batch": 1, "seed": 0}
    document["run"] = _build_table({**run, **suggest_precision(suggested)}, {})
    if plan:
        write_values(document, plan)
    return document


def _build_training(
    scan: DatasetScan, variant: Variant, suggested: Suggestions, *, swaps: bool
) -> dict[str, Table]:
    """Sections that say how a LoRA is trained on a model that has learnt much already."""
    tables = {}
    if scan.masks.kind != "none":
        tables["losses"] = _build_losses(variant)
        if swaps:
            tables["swap"] = _build_swap(scan, suggested, variant)
    tables["lora"] = _build_table({"rank": 16}, {"rank": "size of the update: 4 to 64"})
    tables["optimizer"] = _build_table(
        {"lr": 1e-4, "warmup": 50}, {"lr": "lower it if previews turn harsh or noisy"}
    )
    return tables


def _build_table(values: dict[str, Any], comments: dict[str, str]) -> Table:
    table = tomlkit.table()
    for key, value in values.items():
        table.add(key, value)
        if key in comments:
            table[key].comment(comments[key])
    return table


def _build_data(scan: DatasetScan, variant: Variant, base: Path, recipe: Recipe | None) -> Table:
    table = tomlkit.table()
    table.add("clips", _make_relative(scan.clips, base))
    _add_masks(table, scan, base)
    if scan.captions:
        table.add("captions", _make_relative(scan.captions, base))
    if scan.captioned < scan.count:
        table.add("caption", UNNAMED)
        missing = scan.count - scan.captioned
        table["caption"].comment(f"for the {missing} clips without a caption: name yours")
    if (rejects := list_place(scan.clips)).is_file():
        table.add("reject", _make_relative(rejects, base))
    _add_roles(table, scan, variant, base)
    table.add("trigger", "")
    table["trigger"].comment("a rare word put before every caption, to call the subject by")
    table.add("resolution", _choose_resolution(scan, variant, recipe))
    table["resolution"].comment("width, height; aspect ratios are kept, the area is this one's")
    if variant.video:
        longest = recipe.frames if recipe and recipe.frames else variant.frames
        table.add("frames", _choose_frames(scan, variant.grid, longest))
        table["frames"].comment(f"1 + n * {variant.grid.temporal}")
    return table


def _add_roles(table: Table, scan: DatasetScan, variant: Variant, base: Path) -> None:
    """What only models that look at pictures need."""
    if variant.sees == "pictures" and not is_manifest(scan.clips):
        places = [scan.clips / name for name in REFERENCES] + [
            scan.clips.parent / name for name in REFERENCES
        ]
        folder = next((place for place in places if place.is_dir()), None)
        table.add("references", _make_relative(folder or scan.clips.parent / REFERENCES[0], base))
        comment = "of each clip, what the edit starts from (name.png); masks are of the clip"
        table["references"].comment(comment if folder else f"make this folder: {comment}")
    if variant.sees == "first_frame" and scan.masks.kind != "none":
        table.add("mask_role", "loss")
        table["mask_role"].comment(
            '"condition": the model is shown what lies outside the masks instead; or "both"'
        )


def _add_masks(table: Table, scan: DatasetScan, base: Path) -> None:
    masks = scan.masks
    if masks.kind == "folder":
        table.add("masks", _describe_folder(scan, base))
    elif masks.kind == "regions":
        inner = tomlkit.inline_table()
        inner.update({name: _make_relative(path, base) for name, path in masks.folders.items()})
        table.add("masks", inner)
    elif masks.kind in ("sidecar", "listed") and masks.labels:
        inner = tomlkit.inline_table()
        inner.update({"source": masks.kind, "legend": _build_legend(masks.labels)})
        table.add("masks", inner)
    else:
        table.add("masks", masks.kind)
    if masks.kind == "none":
        table["masks"].comment("none found; a folder of the clips' names, or see the reference")
    if masks.levels:
        greys = ", ".join(str(level) for level in masks.levels)
        table.add(tomlkit.comment(f"The masks have grey levels {greys}, read as weights 0 to 1."))
        level_example = "levels = { face = 255, body = 128 }"
        table.add(tomlkit.comment("To name them, and tune each in [regions], write instead:"))
        source = '"listed"' if masks.kind == "listed" else '"folder", path = "..."'
        table.add(tomlkit.comment(f"masks = {{ source = {source}, {level_example} }}"))


def _describe_folder(scan: DatasetScan, base: Path) -> InlineTable | str:
    path = _make_relative(scan.masks.folders[""], base)
    if not scan.masks.labels:
        return path
    inner = tomlkit.inline_table()
    inner.update({"source": "folder", "path": path, "legend": _build_legend(scan.masks.labels)})
    return inner


def _build_legend(labels: tuple[int, ...]) -> dict[str, int]:
    return {f"label_{label}": label for label in labels if label}


def _build_regions(scan: DatasetScan) -> Table:
    masks = scan.masks
    region_names = [name for name in masks.folders if name] or [
        *masks.legend,
        *_build_legend(masks.labels),
    ]
    names = [name for name in region_names if name != "background"] or ["subject"]
    usual_weights = PRESETS["person"] if "face" in masks.legend else {}
    table = _build_table(
        {name: usual_weights.get(name, 1.0) for name in names} | {"background": 0.0}, {}
    )
    table[names[0]].comment("how much a region teaches; change it freely, nothing is encoded again")
    table["background"].comment("0: the loss does not see it at all")
    return table


def _build_losses(variant: Variant) -> Table:
    table = _build_table({"denoise": 1.0, "prior": 0.5}, {})
    table["denoise"].comment("the error inside the mask")
    table["prior"].comment("outside it, stay with the base model: less drift")
    if variant.sees == "pictures":
        table.add(tomlkit.comment("No [swap]: the references would still show the old background."))
    return table


def _build_swap(scan: DatasetScan, suggested: Suggestions, variant: Variant) -> Table:
    """The preset: a mask keeps the background out of the loss, the swap out of the input."""
    paints = variant.sees == "nothing"  # else it makes nothing from words alone
    table = tomlkit.table()
    for line in (
        "A mask keeps the background out of the loss, but the model still sees it: with the mask",
        "alone the subject stays tied to what it was seen before. So a share of steps sees the",
        "subject on another background"
        + (", which the base model paints once from these prompts." if paints else "."),
    ):
        table.add(tomlkit.comment(line))
    table.add("rate", 0.5)
    table["rate"].comment("0 turns it off")
    if not paints:
        table.add("source", "clips" if scan.count > 1 else "gradient")
        table["source"].comment('better: "folder" with path = captioned pictures or clips of yours')
        table.add("template", suggested.template)
        return table
    table.add("source", "bank")
    prompts = tomlkit.array()
    prompts.extend(suggested.backgrounds)
    table.add("prompts", prompts.multiline(True))
    if suggested.bank_prompt != Swap.model_fields["bank_prompt"].default:
        table.add("bank_prompt", suggested.bank_prompt)
    table.add("template", suggested.template)
    return table


def _build_preview(scan: DatasetScan, suggested: Suggestions, variant: Variant) -> Table:
    """What is worth a look: what leaks without words, and the subject on a new background."""
    caption = scan.example or UNNAMED
    prompt = suggested.template.format(caption=caption, background=suggested.scene)
    table = tomlkit.table()
    table.add(
        tomlkit.comment("The first, without words, shows what leaks; the second what is asked.")
    )
    if variant.sees == "nothing":
        table.update({"every": 250, "prompts": ["", prompt]})
        return table
    table.update({"every": 0, "prompts": ["", prompt], "images": []})
    picture_kind = "first frame" if variant.sees == "first_frame" else "pictures to edit"
    table["every"].comment("250, once `images` names something")
    table["images"].comment(f"files: the {picture_kind}")
    return table


def _build_validation(scan: DatasetScan) -> Table:
    holdout = 1 if scan.count >= 8 else 0
    table = _build_table({"every": 250 if holdout else 0, "holdout": holdout}, {})
    table["holdout"].comment("clips kept out of training, on which the mask's effect is measured")
    return table


def _choose_resolution(scan: DatasetScan, variant: Variant, recipe: Recipe | None) -> list[int]:
    """The clips' own size, no larger in area than the recipe's or variant's, in whole patches."""
    step = variant.grid.step
    width, height = recipe.resolution if recipe else (variant.width, variant.height)
    shrink = min(1.0, (width * height / (scan.width * scan.height)) ** 0.5)
    sides = (scan.width * shrink, scan.height * shrink)
    return [max(step, round(side / step) * step) for side in sides]


def _choose_frames(scan: DatasetScan, grid: LatentGrid, longest: int) -> int:
    return grid.fit_frames(min(scan.frames, longest))


def _make_relative(path: Path, base: Path) -> str:
    """As seen from the config file; absolute where that would climb far."""
    relative = Path(os.path.relpath(path.absolute(), base))
    far = relative.parts.count("..") > 2
    return (path.absolute() if far else relative).as_posix()


def _make_slug(clips: Path) -> str:
    folder = clips.absolute().with_suffix("") if is_manifest(clips) else clips.absolute()
    ascii_name = (
        folder.parent.name if folder.name.lower() in ("clips", "images", "videos") else folder.name
    )
    return (
        "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in ascii_name)
        or "first"
    )

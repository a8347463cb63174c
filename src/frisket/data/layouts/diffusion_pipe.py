"""diffusion-pipe: the dataset TOML, or the main TOML that names it."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from frisket.data.layout_base import Imported, Layout
from frisket.data.layout_files import peek, read_config
from frisket.data.layout_folders import file_at, folder_at, look, stepped, whole_repeats
from frisket.data.layout_models import dtype_of, model_of, quantised, with_v, without
from frisket.data.layout_options import Sheet, Table, filled, rules_of
from frisket.data.noise_levels.diffusion_pipe import timesteps_of

ROUNDED = 16  # pixels: sides of its buckets are multiples of it
OPTIMIZERS = {
    "adamw": "adamw",
    "adamw_optimi": "adamw",
    "adamw8bit": "adamw8bit",
    "adamw8bitkahan": "adamw8bit",
    "sgd": "sgd",
    "prodigy": "prodigy",
    "muon": "muon",
    "lion": "lion",
    "came": "came",
    "adafactor": "adafactor",
}
# What holds the denoiser; one of its own goes before the folder it is taken out of.
WEIGHTS = (
    *("transformer_path", "diffusion_model", "checkpoint_path", "single_file_path"),
    *("diffusers_path", "ckpt_path"),
)
CASTS = {**dict.fromkeys(("bfloat16", "float16", "float32"), ""), "float8*": "float8", "nf4": "nf4"}


def suits(path: Path) -> bool:
    """A TOML with `[[directory]]` tables, or one with `dataset` and `[model] type`."""
    tree = peek(path) if path.suffix.lower() == ".toml" else None
    if not isinstance(tree, dict):
        return False
    model = tree.get("model")
    main = isinstance(tree.get("dataset"), str) and isinstance(model, dict) and "type" in model
    rows = tree.get("directory")
    return main or (isinstance(rows, list) and all(isinstance(row, dict) for row in rows))


def read(path: Path) -> Imported:
    """Read either file. The main file brings the loss, the optimizer and the adapter with it."""
    sheet = Sheet(read_config(path), rules_of("diffusion_pipe"))
    if "directory" in sheet.written.tree:
        data, sections = _dataset(sheet, "single_beginning")[:2]
        return Imported(path, "diffusion-pipe", data, sections, tuple(sheet.notes))
    main = sheet.top("main")
    found = file_at(main, "dataset")
    inner = Sheet(read_config(found), sheet.rules, name=f"{found.name}: ")
    mode = main.choice("video_clip_mode", ("single_beginning", "single_middle"), "single_beginning")
    data, sections, seen = _dataset(inner, mode)
    sections = _merged(sections, _main(main, seen))
    notes = (*sheet.notes, *inner.notes)
    named = (main.values.get("model") or {}).get("type", "")
    return Imported(path, "diffusion-pipe", data, sections, notes, model=str(named))


def _merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {name: one.get(name, {}) | other.get(name, {}) for name in (*one, *other)}


def _dataset(
    sheet: Sheet, mode: str
) -> tuple[tuple[Mapping[str, Any], ...], dict[str, Mapping[str, Any]], float]:
    """The `[[data]]` tables, the sections that follow from them, and clips seen an epoch."""
    top = sheet.top("directory")
    rows = top.tables("directory", "directory")
    if not rows:
        raise top.bad("directory", "at least one [[directory]] is needed")
    data: list[dict[str, Any]] = []
    rates: list[float] = []
    seen = 0.0
    for row in rows:
        tables, clips = _directory(row, top, mode)
        rate = _own(row, top, "num_repeats").number("num_repeats", 1)
        if rate <= 0:
            raise row.bad("num_repeats", "a number above 0 is needed")
        data += tables
        rates += [rate] * len(tables)
        seen += clips * rate * len(tables)
        row.close()
    top.close()
    for table, repeats in zip(data, whole_repeats(rates), strict=True):
        table["repeats"] = repeats
    masked = any("masks" in table for table in data)
    return tuple(data), {"losses": {"compat": "diffusion-pipe"}} if masked else {}, seen


def _own(row: Table, top: Table, name: str) -> Table:
    """Where an option stands: in its directory, or for all of them at the top."""
    return row if name in row else top


def _directory(row: Table, top: Table, mode: str) -> tuple[list[dict[str, Any]], int]:
    clips = folder_at(row, "path")
    masks = folder_at(row, "mask_path") if "mask_path" in row else None
    references = folder_at(row, "control_path") if "control_path" in row else None
    inside = [each for each in (masks, references) if each]
    seen = look(clips, skip=inside, deep=False)
    if seen.clips == 0:
        raise row.bad("path", f"{clips} holds no image or video (tar files: unpack them)")
    _tell_clips(row, top, clips, references, seen.nested, seen.bare)
    if masks is not None:
        _tell_masks(row)
    if "default_mask_file" in row:
        said = "copy it into the mask folder under the name of each clip that has no mask"
        row.say("default_mask_file", "no equivalent", said)
    table: dict[str, Any] = {"clips": str(clips)}
    if masks is not None:
        table["masks"] = {"source": "folder", "path": str(masks)}
    if references is not None:
        table["references"] = str(references)
    table |= _captions(row, top)
    shapes = _shapes(row, top)
    if shapes[0]["frames"] > 1 and mode == "single_middle":
        said = "clips are cut from the beginning here; cut the middle out of the videos beforehand"
        row.say("video_clip_mode", "no equivalent", said, mode)
    if shapes[0]["frames"] == 1 and seen.videos:
        said = (
            f"there is no bucket for videos, so it dropped the {seen.videos} that are here;"
            " Frisket would take their first frame: move them out, or set data.frames"
        )
        _own(row, top, "frame_buckets").say("frame_buckets", "no equivalent", said, [1])
    return [table | shape | {"extract": "head"} for shape in shapes], seen.clips


def _tell_clips(
    row: Table, top: Table, clips: Path, references: Path | None, nested: int, bare: int
) -> None:
    if nested:
        row.say(
            "path",
            "no equivalent",
            f"is data.clips, but {nested} clips lie in sub-folders, which it does not look into and"
            " Frisket does: move them out",
        )
    if references is not None and clips in references.parents:
        said = f"is data.references, but lies inside {clips}: move it out, or it is taken for clips"
        row.say("control_path", "no equivalent", said)
    skips = _own(row, top, "skip_empty_caption")
    if bare and skips.flag("skip_empty_caption", default=True):
        skips.defect(
            "skip_empty_caption",
            f"its example promises an empty caption, but it leaves out clips without one ({bare}"
            f" of {clips}); here they are trained with an empty caption: caption them, move them"
            " out, or give data.caption",
            value=True,
        )
    if (clips / "captions.json").exists():
        said = (
            f"{clips / 'captions.json'} is not read; write the captions to .txt files, or to a"
            ' .jsonl of {"file": ..., "caption": ...} lines named in data.captions'
        )
        row.say("captions.json", "no equivalent", said)


def _tell_masks(row: Table) -> None:
    row.defect(
        "mask_path",
        "its cache knows masks by path: an edited mask stays the old one until --regenerate_cache;"
        " here masks are known by content. Over a video it lays one still mask; here a mask video"
        " weighs frame by frame. A mask of another size than its clip stops it; here it is fitted",
    )


def _captions(row: Table, top: Table) -> dict[str, Any]:
    shuffled = _own(row, top, "shuffle_tags").flag("shuffle_tags")
    orders = _own(row, top, "cache_shuffle_num").whole("cache_shuffle_num")
    cuts = _own(row, top, "cache_shuffle_delimiter")
    cut = cuts.text("cache_shuffle_delimiter", ", ")
    if (shuffled or orders) and cut.strip() != ",":
        said = "tags are cut at commas here: put commas into the captions"
        cuts.say("cache_shuffle_delimiter", "no equivalent", said)
    prefix = _own(row, top, "caption_prefix").text("caption_prefix")
    return filled(
        caption_part="file",
        template=f"{prefix}{{caption}}" if prefix else None,
        shuffle_tags=bool(shuffled or orders),
    )


def _shapes(row: Table, top: Table) -> list[dict[str, Any]]:
    """Resolution, buckets and frames of each `[[data]]` table."""
    sized = _own(row, top, "size_buckets")
    if "size_buckets" in sized:
        return [_sized(sized)]
    frames = int(max([1.0, *_numbers(_own(row, top, "frame_buckets"), "frame_buckets")]))
    ratio = _one_ratio(row, top)
    given = _own(row, top, "resolutions")
    sides = _pairs(given, "resolutions")
    if not sides:
        raise given.bad("resolutions", "is needed: the side of a square, or [width, height]")
    # The sets are trained together, so a side given twice would only be seen twice.
    sides = list(dict.fromkeys(sides))
    if ratio is not None:
        fixed = [_frame(wide * high, ratio) for wide, high in sides]
        return [{"resolution": frame, "buckets": False, "frames": frames} for frame in fixed]
    areas = [round(wide) if wide == high else [round(wide), round(high)] for wide, high in sides]
    return [{"resolution": area, "buckets": True, "frames": frames} for area in areas]


def _one_ratio(row: Table, top: Table) -> float | None:
    """Width / height where there is one bucket, None where there are several."""
    if not _own(row, top, "enable_ar_bucket").flag("enable_ar_bucket"):
        return 1.0
    listed = _own(row, top, "ar_buckets")
    if "ar_buckets" in listed:
        pairs = _pairs(listed, "ar_buckets", single=lambda ratio: (ratio, 1.0))
        ratios = {round(wide / high, 3) for wide, high in pairs}
        return ratios.pop() if len(ratios) == 1 else None
    for name in ("min_ar", "max_ar", "num_ar_buckets"):
        _own(row, top, name).number(name, 1, low=0)
    return None


def _frame(area: float, ratio: float) -> list[int]:
    wide = math.sqrt(area * ratio)
    return [max(round(side / ROUNDED), 1) * ROUNDED for side in (wide, area / wide)]


def _sized(table: Table) -> dict[str, Any]:
    name = "size_buckets"
    rows = table.values[name]
    if not rows or not all(
        isinstance(row, list) and len(row) == 3 and all(isinstance(n, int) and n > 0 for n in row)
        for row in rows
    ):
        raise table.bad(name, "a list of [width, height, frames] is needed")
    wide, high, _ = max(rows, key=lambda row: row[0] * row[1])
    if len(rows) > 1:
        said = (
            "it puts each clip into the bucket nearest in shape, then length; here all have the"
            " area of the largest and frames that follow the clip. For fixed ones write one"
            " [[data]] table a bucket, with buckets = false and the clips that belong to it"
        )
        table.say(name, "no equivalent", said)
    frames = max(row[2] for row in rows)
    return {"resolution": [wide, high], "buckets": len(rows) > 1, "frames": frames}


def _numbers(table: Table, name: str) -> list[float]:
    return [wide for wide, _ in _pairs(table, name)]


def _pairs(
    table: Table, name: str, single: Any = lambda side: (side, side)
) -> list[tuple[float, float]]:
    """A list whose entries are numbers above 0, or pairs of them."""
    value = table.values.get(name, [])
    rows = value if isinstance(value, list) else None
    numbers = [row if isinstance(row, list) else list(single(row)) for row in rows or ()]
    if rows is None or not all(
        len(pair) == 2 and all(isinstance(n, int | float) and n > 0 for n in pair)
        for pair in numbers
    ):
        raise table.bad(name, "a list of numbers above 0 is needed, or of pairs of them")
    return [(float(wide), float(high)) for wide, high in numbers]


def _main(main: Table, seen: float) -> dict[str, Mapping[str, Any]]:
    """The sections of Frisket that follow from the main file."""
    model, adapter = main.table("model", "model"), main.table("adapter", "adapter")
    optimizer = main.table("optimizer", "optimizer")
    base, bits = _model(model)
    sections = {
        "model": base,
        "losses": _loss(main),
        "timesteps": timesteps_of(model, base),
        "lora": _lora(main, adapter),
        "optimizer": _optimizer(main, optimizer),
        "memory": filled(
            checkpointing=main.values.get("activation_checkpointing") in (True, "unsloth"),
            compile=main.flag("compile"),
            swap_blocks=main.whole("blocks_to_swap") or None,
        )
        | bits,
        "run": _run(main, seen) | filled(precision=dtype_of(model, "dtype")),
    }
    if model.text("type") == "ltx-video":
        said = "of all its models this one alone divides the loss by the mask's mean"
        model.defect("type", f"{said}: with losses.compat it is not divided")
    for table in (model, adapter, optimizer, main):
        table.close()
    return {name: section for name, section in sections.items() if section}


def _model(table: Table) -> tuple[dict[str, Any], dict[str, Any]]:
    """[model], and what of [memory] belongs to it."""
    kind = table.text("type")
    given = [(table, name) for name in WEIGHTS]
    model = model_of(table, "type", kind, trainer="diffusion_pipe", weights=given)
    if not model:
        without(table, "v_pred", "transformer_dtype", "diffusion_model_dtype")
        return {}, {}
    if table.flag("v_pred"):
        model = with_v(model, table, "v_pred")
    own = "diffusion_model_dtype" if "diffusion_model_dtype" in table else "transformer_dtype"
    return model | filled(dtype=dtype_of(table, "dtype")), quantised(table, own, CASTS)


def _loss(main: Table) -> dict[str, Any]:
    for name, kind in (("huber_delta", "huber"), ("smooth_l1_beta", "smooth_l1")):
        if name in main:
            return {"denoise": {"kind": kind, "delta": main.number(name)}}
    return {}


def _lora(main: Table, adapter: Table) -> dict[str, Any]:
    if not adapter.values:
        said = "there is no [adapter], it trains the whole model; Frisket trains an adapter"
        main.say("adapter", "no equivalent", f"{said}: [lora] sets its size")
        return {}
    rank = adapter.whole("rank", 16, low=1)
    given = adapter.text("init_from_existing").rstrip("/\\")
    return filled(
        kind=adapter.choice("type", ("lora", "lokr"), "lora"),
        rank=rank,
        alpha=rank,
        dropout=adapter.number("dropout") or None,
        # It names the folder of a saved LoRA, Frisket the file in it.
        source=f"{given}/adapter_model.safetensors" if given else None,
    )


def _optimizer(main: Table, table: Table) -> dict[str, Any]:
    kind = table.text("type")
    name = OPTIMIZERS.get(kind.lower())
    if kind and name is None:
        said = "no alias of it here: set optimizer.name to the import path of its class"
        table.say("type", "no equivalent", said)
    constant = "force_constant_lr" in main
    rate = main.number("force_constant_lr") if constant else table.number("lr")
    schedules = ("constant", "linear", "cosine")
    options = {key: table.values[key] for key in ("betas", "eps") if key in table}
    return filled(
        name=name,
        lr=rate or None,
        weight_decay=table.number("weight_decay", 0.01),
        options=options,
        schedule="constant" if constant else main.choice("lr_scheduler", schedules, "constant"),
        warmup=main.whole("warmup_steps"),
        clip=main.number("gradient_clipping", 1.0),
        accumulate=main.whole("gradient_accumulation_steps", 1, low=1),
    )


def _run(main: Table, seen: float) -> dict[str, Any]:
    batch = main.values.get("micro_batch_size_per_gpu", 1)
    if isinstance(batch, list):
        said = "is run.batch, one for all resolutions: the smallest is taken"
        main.say("micro_batch_size_per_gpu", "no equivalent", said)
        batch = min((row[-1] for row in batch if isinstance(row, list) and row), default=1)
    else:
        batch = main.whole("micro_batch_size_per_gpu", 1, low=1)
    steps = main.whole("max_steps")
    if "epochs" in main and not steps:
        accumulate = main.whole("gradient_accumulation_steps", 1, low=1)
        steps = stepped(main, "epochs", seen, batch * accumulate)
    return filled(
        batch=batch, steps=steps or None, save_every=main.whole("save_every_n_steps") or None
    )


LAYOUT = Layout("diffusion-pipe: dataset.toml, or the training TOML that names it", suits, read)

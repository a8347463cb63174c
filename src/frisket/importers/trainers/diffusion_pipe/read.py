"""diffusion-pipe: the dataset TOML, or the main TOML that names it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from frisket.importers.base import BadImport, Imported, ImportFormat, Note
from frisket.importers.files import peek, read_config
from frisket.importers.folders import find_file, find_path
from frisket.importers.models import map_dtype
from frisket.importers.options import OptionTable, Sheet, drop_unset, read_rules
from frisket.importers.trainers.diffusion_pipe.data import MODES, Sets, sets_of
from frisket.importers.trainers.diffusion_pipe.noise_levels import timesteps_of
from frisket.importers.trainers.diffusion_pipe.options import (
    adapter_of,
    length_of,
    loss_of,
    read_model,
    run_of,
    stepping_of,
    validation_of,
)

COMPAT = {"compat": "diffusion-pipe"}


def matches(path: Path) -> bool:
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
    sheet = Sheet(read_config(path), read_rules("diffusion_pipe"))
    if "directory" in sheet.written.tree:
        sets = sets_of(sheet, "single_beginning")
        alone: dict[str, Mapping[str, Any]] = {"losses": COMPAT} if sets.masked else {}
        notes = tuple(sheet.notes)
        return Imported(path, "diffusion-pipe", tuple(sets.data), alone, notes, sets.manifests)
    main = sheet.top("main")
    mode = main.choice("video_clip_mode", list(MODES), "single_beginning")
    file = find_file(main, "dataset")
    inner = Sheet(read_config(file), sheet.rules, name=f"{file.name}: ")
    sets = sets_of(inner, mode)
    evaluation, evaluation_notes = _read_evaluation_sets(main, mode, sets)
    sections = _read_sections(main, sets, evaluation)
    notes = (*sheet.notes, *inner.notes, *evaluation_notes)
    model_type = (main.values.get("model") or {}).get("type", "")
    return Imported(
        path, "diffusion-pipe", tuple(sets.data), sections, notes, sets.manifests, str(model_type)
    )


def _read_evaluation_sets(
    main: OptionTable, mode: str, sets: Sets
) -> tuple[list[Mapping[str, Any]], tuple[Note, ...]]:
    """The sets that it evaluates on, each of a dataset file of its own, and their notes."""
    entries = main.values.get("eval_datasets", [])
    tables: list[Mapping[str, Any]] = []
    notes: list[Note] = []
    if not isinstance(entries, list):
        raise main.bad("eval_datasets", "a list of files is needed")
    for entry in entries:
        config_path = entry.get("config") if isinstance(entry, dict) else entry
        if not isinstance(config_path, str):
            raise main.bad("eval_datasets", 'a file, or {name = "...", config = "..."} is needed')
        try:
            file = find_path(main, "eval_datasets", config_path)
        except BadImport:
            message = f"{config_path} is not there: write [[validation.data]] for its clips"
            main.say("eval_datasets", "no equivalent", message)
            continue
        sheet = Sheet(read_config(file), main.sheet.rules, name=f"{file.name}: ")
        rows = sets_of(sheet, mode, sets.manifests).data
        tables += [{key: value for key, value in row.items() if key != "repeats"} for row in rows]
        notes += sheet.notes
    if tables:
        message = (
            "is validation.data here, a table each; there the levels are the 10 to 90 % quantiles"
            " of those trained, here validation.t"
        )
        main.say("eval_datasets", "mapped", message)
    return tables, tuple(notes)


def _read_sections(
    main: OptionTable, sets: Sets, evaluation: list[Mapping[str, Any]]
) -> dict[str, Mapping[str, Any]]:
    """The sections of Frisket that follow from the main file."""
    model, adapter = main.table("model", "model"), main.table("adapter", "adapter")
    optimizer = main.table("optimizer", "optimizer")
    base, bits = read_model(model)
    lora = adapter_of(main, adapter, base)
    horizon, steps = length_of(main, sets)
    stepping = stepping_of(main, optimizer, model, adapted=bool(lora), horizon=horizon, steps=steps)
    _drop_captions(main, sets)
    sections = {
        "model": base,
        "losses": (COMPAT if sets.masked else {}) | loss_of(main),
        "timesteps": timesteps_of(model, base),
        "lora": lora,
        "optimizer": stepping,
        "memory": drop_unset(
            checkpointing=main.values.get("activation_checkpointing") in (True, "unsloth"),
            compile=main.flag("compile"),
            swap_blocks=main.whole("blocks_to_swap") or None,
        )
        | bits,
        "validation": validation_of(main, sets, evaluation),
        "run": run_of(main, sets) | drop_unset(precision=map_dtype(model, "dtype")),
    }
    if model.text("type") == "ltx-video":
        message = "of all its models this one alone divides the loss by the mask's mean"
        model.defect("type", f"{message}: with losses.compat it is not divided")
    for table in (model, adapter, optimizer, main):
        table.close()
    return {name: section for name, section in sections.items() if section}


def _drop_captions(main: OptionTable, sets: Sets) -> None:
    """`data.caption_dropout` of every set: its share of steps without a caption."""
    share = main.number("uncond_fraction", low=0)
    if share:
        for table in sets.data:
            table["caption_dropout"] = share


FORMAT = ImportFormat(
    "diffusion-pipe: dataset.toml, or the training TOML that names it", matches, read
)

"""`model/` of a run that trained all weights: a folder that `model.source` and diffusers take."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path

from huggingface_hub import try_to_load_from_cache
from torch import nn

from frisket.config.tree import Config
from frisket.data.records import Prepared
from frisket.disk.folders import replace_folder, share_file
from frisket.disk.untrusted import read_table
from frisket.families.base import Family, Source
from frisket.families.weights import HUB_ID
from frisket.families.whole_model import save_weights
from frisket.runs.card import describe_run
from frisket.runs.prepare import PIXEL_PARTS, TEXT_PARTS, source_of
from frisket.runs.sampling.whole_models import MODEL, RECORD

log = logging.getLogger(__name__)

INDEX = "model_index.json"  # of a diffusers pipeline: which parts it has
PARTS = (*PIXEL_PARTS, *TEXT_PARTS, "scheduler")  # where no index says it
# What a part may hold besides its own weights in safetensors, and nothing of ours reads.
FOREIGN = (".bin", ".pt", ".pth", ".ckpt", ".onnx", ".onnx_data", ".msgpack", ".h5")


def write_model(
    config: Config, family: Family, denoiser: nn.Module, prepared: Prepared, steps: int
) -> Path:
    """Write the trained denoiser with the base's other parts beside it; returns the folder.

    The whole folder takes the place of an earlier one at once. The other parts (text encoder, VAE,
    scheduler, the pipeline's index) are second names of the base's own files, which take no room,
    or copies where these lie on another disk. Parts that are not on this machine are named in the
    log and in the folder's record. Raises CannotWrite.
    """
    folder = config.run.output / MODEL
    base = find_base(family, source_of(config, family))
    with replace_folder(folder) as draft:
        save_weights(denoiser, draft / family.denoiser_folder)
        lacking = list(_add_parts(base, draft, family.denoiser_folder))
        record = describe_run(config, prepared, steps)
        if lacking:
            record["frisket.lacking"] = json.dumps(lacking)
        text = json.dumps(record, indent=1, sort_keys=True, ensure_ascii=False)
        (draft / RECORD).write_text(text + "\n", encoding="utf-8", errors="backslashreplace")
    if lacking:
        log.warning(
            "%s lacks %s, which the base has not on this machine either: put them there before the"
            " folder is used apart from it",
            folder,
            ", ".join(lacking),
        )
    return folder


def find_base(family: Family, source: Source) -> Path | None:
    """The folder that the parts of a base lie in; None where it has none on this machine.

    Of a single file, that with the other parts beside it. No hub is asked.
    """
    local = source.local
    if local is not None:
        if local.is_dir():
            return local
        folders = (local.parent, local.parent.parent)
        return next((folder for folder in folders if (folder / "vae").is_dir()), None)
    repo = source.path or family.variants[source.variant].repo
    if not HUB_ID.fullmatch(repo):
        return None
    name = f"{family.denoiser_folder}/config.json"  # of the parts, the one that was surely fetched
    fetched = try_to_load_from_cache(repo, name, revision=source.revision)
    return Path(fetched).parent.parent if isinstance(fetched, str) else None


def _add_parts(base: Path | None, folder: Path, denoiser: str) -> Iterator[str]:
    """Share the parts of the base but its denoiser; names those that are not there."""
    if base is None:
        return
    names = _list_parts(base)
    if (base / INDEX).is_file():
        share_file(base / INDEX, folder / INDEX)
    elif names:
        yield INDEX
    for name in names:
        if name == denoiser:
            continue
        if (base / name).is_dir():
            _share_part(base / name, folder / name)
        else:
            yield name


def _list_parts(base: Path) -> list[str]:
    """The folders of a pipeline's parts, by its index, or else those that are there."""
    if not (base / INDEX).is_file():
        return sorted({path.name for name in PARTS for path in base.glob(name)})
    index = read_table(base / INDEX)
    return [
        name
        for name, value in index.items()
        if not name.startswith("_")
        and isinstance(value, list)
        and len(value) == 2
        and isinstance(value[0], str)
        and name == Path(name).name
    ]


def _share_part(source: Path, target: Path) -> None:
    copied = 0
    for path in sorted(source.rglob("*")):
        if not path.is_file() or path.suffix in FOREIGN:
            continue
        place = target / path.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        if share_file(path, place):
            copied += place.stat().st_size
    if copied:
        log.info("%s: %.1f MB copied from %s", target.name, copied / 1e6, source)

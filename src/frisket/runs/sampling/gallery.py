"""Where samples go, so that none is written over, and the page that lays them side by side."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote

from frisket.evaluation.page import render, write_whole
from frisket.runs.sampling.whole_models import MODEL

RECORD = "generate.json"
OURS = re.compile(r"\d{3}-.*|grid\..*|generate\.json")  # what a call of `generate` writes


def new_folder(output: Path | None, samples: Path) -> Path:
    """A folder without samples: `output`, or `output`-2 and so on; without it `samples`/001, ...

    It is made, so that two calls at once do not get the same.
    """
    for folder in _candidates(output, samples):
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            if folder == output and folder.is_dir() and not _has_samples(folder):
                return folder
        else:
            return folder
    raise AssertionError("the candidates never end")


def _candidates(output: Path | None, samples: Path) -> Iterator[Path]:
    if output is None:
        yield from (samples / f"{number:03d}" for number in count(1))
        return
    yield output
    yield from (output.with_name(f"{output.name}-{number}") for number in count(2))


def _has_samples(folder: Path) -> bool:
    return any(OURS.fullmatch(path.name) for path in folder.iterdir())


@dataclass(frozen=True, slots=True)
class GalleryColumn:
    """What one call sampled with one version of the model."""

    title: str
    settings: str
    folder: str
    files: dict[tuple[str, int], str]  # by prompt and seed


def write_gallery(samples: Path) -> Path | None:
    """Write `samples`/index.html over all calls below it, the newest first; None where none is.

    A record that is no JSON of ours is left out: the pictures stay where they are.
    """
    columns = [
        column
        for record in sorted(samples.glob(f"*/{RECORD}"), reverse=True)
        for column in _columns(record)
    ]
    if not columns:
        return None
    pairs = list(dict.fromkeys(pair for column in columns for pair in column.files))
    rows = [
        {
            "prompt": prompt,
            "seed": seed,
            "files": [column.files.get((prompt, seed)) for column in columns],
        }
        for prompt, seed in pairs
    ]
    page = samples / "index.html"
    write_whole(page, render("gallery.html.j2", rows=rows, columns=columns))
    return page


def _columns(record: Path) -> Iterator[GalleryColumn]:
    try:
        content = json.loads(record.read_text(encoding="utf-8"))
        versions = [_read_version(picture) for picture in content["pictures"]]
        for version in reversed(list(dict.fromkeys(versions))):  # all that acts first, base last
            pairs = zip(content["pictures"], versions, strict=True)
            pictures = [picture for picture, other in pairs if other == version]
            yield _column(content, pictures, record.parent.name, version)
    except (OSError, ValueError, KeyError, TypeError):
        return


def _read_version(picture: Any) -> tuple[bool, tuple[str, ...]]:
    """Whether a picture was sampled with the LoRAs, and with which methods."""
    return bool(picture["lora"]), tuple(map(str, picture.get("methods", ())))


def _column(
    content: Any, pictures: Any, folder: str, version: tuple[bool, tuple[str, ...]]
) -> GalleryColumn:
    tuned, methods = version
    scales = {entry["label"]: entry["scale"] for entry in content.get("methods", ())}
    parts = [_name_lora(lora) for lora in content["lora"]] if tuned else []
    parts += [f"{label} x {scales[label]:g}" for label in methods]
    title = " + ".join(parts) or "base"
    first = pictures[0]
    settings = f"{first['steps']} steps, guidance {first['guidance']:g}"
    files = {
        (str(picture["prompt"]), int(picture["seed"])): quote(f"{folder}/{picture['file']}")
        for picture in pictures
    }
    return GalleryColumn(title, settings, folder, files)


def _name_lora(lora: Any) -> str:
    """A LoRA by its file, a checkpoint or a run's model by its folder, and its strength."""
    path = Path(lora["path"])
    name = path.stem if path.stem not in ("lora", MODEL) else f"{path.parent.name} {path.stem}"
    return f"{name} x {lora['strength']:g}"

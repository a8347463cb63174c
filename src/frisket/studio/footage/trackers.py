"""What can carry a mask through a video here: optical flow always, SAM 2 where its folder is."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from frisket.config.load import read_layers
from frisket.studio.settings import read_settings
from frisket.studio.state import Studio
from frisket.studio.workspace import WorkspaceClip

FLOW, SAM2 = "flow", "sam2_video"
KINDS = ("sam2_video", "sam2")  # as a model's folder calls itself
SMALL = 1 << 20  # bytes of a model's config.json


def list_trackers(studio: Studio, clip: WorkspaceClip) -> list[str]:
    """The names a tracking may be asked of."""
    return [FLOW, *([SAM2] if _find_folder(studio, clip) else [])]


def find_tracker(studio: Studio, clip: WorkspaceClip, name: str) -> tuple[str, str]:
    """Folder of the weights and device of a tracker; ValueError for one that is not here."""
    if name == FLOW:
        return "", "cpu"
    folder = _find_folder(studio, clip) if name == SAM2 else None
    if folder is None:
        raise ValueError(
            f"{name}: no folder of its weights is known here; give one as `frisket studio --sam"
            ' FOLDER`, or [maskgen.sources] sam2_video = "FOLDER" in the configuration'
        )
    return str(folder), "auto"


def _find_folder(studio: Studio, clip: WorkspaceClip) -> Path | None:
    return next(
        (folder for folder in _list_folders(studio, clip) if _read_kind(folder) in KINDS), None
    )


def _list_folders(studio: Studio, clip: WorkspaceClip) -> Iterator[Path]:
    config = studio.workspace.get_set(clip.set_id).config
    if config is not None:
        sources = read_layers(config)[0].maskgen.sources
        yield from (Path(sources[name]).expanduser() for name in KINDS if name in sources)
    yield from read_settings(studio.home).models


def _read_kind(folder: Path) -> str:
    return str(_read_json(folder / "config.json").get("model_type", ""))


def _read_json(path: Path) -> dict[str, Any]:
    """A small JSON object, {} where there is none: it only says what else is on offer."""
    try:
        if path.stat().st_size > SMALL:
            return {}
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}

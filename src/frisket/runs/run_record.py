"""What a run says of itself in files of its folder, for pages that watch it: banner and clips."""

import json
from pathlib import Path
from typing import Any

from frisket.config.tree import Config
from frisket.data.records import Item, Prepared
from frisket.disk.atomic import replacing
from frisket.runs import banner
from frisket.runs.epochs import epoch_of

BANNER = "banner.json"
CLIPS = "clips.json"


def write_record(config: Config, prepared: Prepared, folder: Path) -> None:
    """Write what the run teaches (`banner.json`) and from which clips (`clips.json`).

    A line of metrics names its clips by their place in `clips.json`.
    """
    teaches = {
        "rows": banner.rows(config, prepared),
        "warnings": banner.warnings(config, prepared),
        "epoch": epoch_of(config, prepared.items),
    }
    _write(folder / BANNER, teaches)
    _write(folder / CLIPS, [_describe_item(item) for item in prepared.items])


def _write(path: Path, content: Any) -> None:
    with replacing(path) as draft:
        draft.write_text(json.dumps(content, ensure_ascii=False) + "\n", encoding="utf-8")


def _describe_item(item: Item) -> dict[str, Any]:
    """A training clip: its file, its frames as [first, last, how many], its crop in pixels."""
    entry: dict[str, Any] = {"name": item.name, "clip": item.clip, "cells": list(item.shape)}
    if item.picks:
        entry["frames"] = [item.picks[0], item.picks[-1], len(item.picks)]
    if item.crop:
        entry["crop"] = [round(value, 2) for value in item.crop]
    entry |= {"weight": item.weight, "repeats": item.repeats, "masked": item.coverage is not None}
    return entry | ({"flip": True} if item.flip else {})

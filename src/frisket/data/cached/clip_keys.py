"""What a run is trained on, clip by clip, in a file of its own: so that runs can be compared."""

import json
from pathlib import Path

from frisket.data.records import Item, Prepared
from frisket.disk.atomic import replacing

FILE = "clips.json"


def write_clip_keys(prepared: Prepared, folder: Path) -> Path:
    """Write `folder`/clips.json: each clip with the keys of its latents, captions and coverage.

    A line of metrics names its clips by their place in `clips`, counted from 0. `frames` are the
    first and last frame of the file and how many, `crop` is top, left, height and width in pixels.
    Keys are hashes of content and of how it is read, so equal keys are equal data, whatever the
    files are called. Returns the path.
    """
    entries = [
        _describe_item(item, held_out=held_out)
        for items, held_out in ((prepared.items, False), (prepared.held, True))
        for item in items
    ]
    tree = {"digest": prepared.digest, "regions": list(prepared.regions), "clips": entries}
    path = folder / FILE
    with replacing(path) as draft:
        text = json.dumps(tree, ensure_ascii=False, separators=(",", ":"))
        draft.write_text(text + "\n", encoding="utf-8", errors="backslashreplace")
    return path


def _describe_item(item: Item, *, held_out: bool) -> dict[str, object]:
    picks = item.picks
    return {
        "name": item.name,
        "clip": item.clip,
        "latents": item.latents,
        "texts": list(item.texts),
        "coverage": item.coverage or (item.drawn[0] if item.drawn else None),
        **({"control": item.control} if item.control else {}),
        "flip": item.flip,
        "repeats": item.repeats,
        "weight": item.weight,
        "held": held_out,
        "frames": [picks[0], picks[-1], len(picks)] if picks else None,
        "crop": [round(value, 2) for value in item.crop] or None,
    }

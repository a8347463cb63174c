"""ai-toolkit's samples while it trains, as `[preview]`."""

import re
from collections.abc import Mapping
from typing import Any

from frisket.importers.files import locate
from frisket.importers.options import OptionTable, drop_unset
from frisket.importers.previews import fit_preview
from frisket.importers.trainers.ai_toolkit.run import every_of

CONTROLS = ("ctrl_img_1", "ctrl_img_2", "ctrl_img_3")
LIKE = {  # an option of [sample], which an entry of `samples` may have for itself
    "width": "width",
    "height": "height",
    "sample_steps": "steps",
    "guidance_scale": "guidance",
    "num_frames": "frames",
    "neg": "negative",
}
FLAGS: Mapping[str, tuple[str, type]] = {  # behind -- in a prompt: what of an entry it sets
    **dict.fromkeys(("n",), ("neg", str)),
    **dict.fromkeys(("w",), ("width", int)),
    **dict.fromkeys(("h",), ("height", int)),
    **dict.fromkeys(("d", "seed"), ("seed", int)),
    **dict.fromkeys(("l", "cfg"), ("guidance_scale", float)),
    **dict.fromkeys(("s", "steps"), ("sample_steps", int)),
    **dict.fromkeys(("frames", "num_frames"), ("num_frames", int)),
    "ctrl_img": ("ctrl_img", str),
}
FLAG = re.compile(r"--(\w+)")


def preview_of(
    sample: OptionTable, train: OptionTable, model: Mapping[str, Any], trigger: str, stride: int
) -> dict[str, Any]:
    """[preview]: one size, seed and setting for all; what an entry has for itself is told.

    `model` is our [model].
    """
    rows = _list_samples(sample, trigger)
    if not rows:
        return {}
    preview: dict[str, Any] = {
        "every": every_of(sample, "sample_every", 100, stride),
        "prompts": [row["prompt"] for row in rows],
        "seeds": [_read_seed(sample, rows)],
        **_read_settings(sample, rows),
    }
    if train.flag("disable_sampling"):
        train.say("disable_sampling", "mapped", "is preview.every = 0 here")
        preview["every"] = 0
    option = "samples" if "samples" in sample else "prompts"
    names = {key: name for name, key in LIKE.items()}

    def tell(key: str, message: str, is_loss: bool) -> None:
        sample.say(names.get(key, option), "no equivalent" if is_loss else "mapped", message)

    return drop_unset(**fit_preview(preview | _find_pictures(sample, option, rows), model, tell))


def _list_samples(sample: OptionTable, trigger: str) -> list[dict[str, Any]]:
    """The samples with a prompt, `[trigger]` filled in; `samples` goes before `prompts`."""
    samples = sample.values.get("samples")
    if samples is None:
        rows = [{"prompt": prompt} for prompt in sample.texts("prompts")]
    elif isinstance(samples, list) and all(isinstance(row, dict) for row in samples):
        if "prompts" in sample:
            sample.say("prompts", "not needed", "samples goes before it, there and here")
        rows = [dict(row) for row in samples if isinstance(row.get("prompt"), str)]
    else:
        raise sample.bad("samples", "a list of tables is needed, each with a prompt")
    option = "prompts" if samples is None else "samples"
    for row in rows:
        words = row["prompt"].replace("[trigger]", trigger).replace("[name]", trigger)
        row.update(_split_flags(sample, option, words))
    return rows


def _split_flags(sample: OptionTable, option: str, prompt: str) -> dict[str, Any]:
    """A prompt, and what it sets behind -- for itself; other flags are told and cut off."""
    words, *parts = FLAG.split(prompt)
    entry: dict[str, Any] = {"prompt": words.strip()}
    for flag, value in zip(parts[::2], parts[1::2], strict=True):
        name, kind = FLAGS.get(flag, ("", str))
        try:
            entry |= {name: kind(value.strip())} if name else {}
        except ValueError as error:
            raise sample.bad(option, f"--{flag} in a prompt: {error}") from error
        if not name:
            message = f"--{flag} in a prompt has no place in [preview]: it is cut off"
            sample.say(option, "no equivalent", message)
    return entry


def _read_settings(sample: OptionTable, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Size and the like: those of the first entry."""
    defaults = {"width": 512, "height": 512, "sample_steps": 20, "num_frames": 1}
    shared = {name: sample.whole(name, default, low=1) for name, default in defaults.items()}
    first: dict[str, Any] = shared | {
        "guidance_scale": sample.number("guidance_scale", 7),
        "neg": sample.values.get("neg") or "",
    }
    varying = [name for name in LIKE if len({str(row.get(name, first[name])) for row in rows}) > 1]
    if varying:
        message = (
            f"[preview] has one {', '.join(varying)} for all: that of the first entry is taken"
        )
        sample.say("samples", "no equivalent", message)
    first |= {name: rows[0][name] for name in LIKE if rows[0].get(name) is not None}
    return drop_unset(**{key: first[name] or None for name, key in LIKE.items()})


def _read_seed(sample: OptionTable, rows: list[dict[str, Any]]) -> int:
    seed = sample.whole("seed", low=-1)
    seeds = {row["seed"] for row in rows if isinstance(row.get("seed"), int)}
    if seeds and seeds != {seed}:
        message = "preview.seeds are for all prompts: those of entries are not taken"
        sample.say("samples", "no equivalent", message)
    if sample.flag("walk_seed") and len(rows) > 1:
        message = "there each prompt has the next seed; preview.seeds are for all prompts"
        sample.say("walk_seed", "no equivalent", message)
    if seed == -1:
        sample.say("seed", "no equivalent", "there a new one each time; preview.seeds = [0] here")
    return max(seed, 0)


def _find_pictures(sample: OptionTable, option: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """`preview.images`: what the samples of an edit or image-to-video model start from.

    Previews that lack theirs are switched off and told: training would stop at them.
    """
    sets = [_list_controls(row) for row in rows]
    if not any(sets):
        return {}
    folder = sample.sheet.written.path.absolute().parent
    first = next(filter(None, sets))
    if any(controls != first for controls in sets):
        message = "preview.images are for all prompts: those of the first entry with some are taken"
        sample.say(option, "no equivalent", message)
    paths = [locate(name, folder)[0] for name in first]
    images = [str(path.absolute()) for path in paths if path is not None and path.is_file()]
    if len(images) < len(first):
        missing = next(
            name
            for name, path in zip(first, paths, strict=True)
            if path is None or not path.is_file()
        )
        message = (
            f"{missing} is not there, so nothing is sampled while training (preview.every = 0):"
            " name such pictures in preview.images, then set preview.every"
        )
        sample.say(option, "no equivalent", message)
        return {"every": 0}
    sample.say(option, "mapped", "is preview.prompts and preview.images here")
    return {"images": images}


def _list_controls(row: Mapping[str, Any]) -> list[str]:
    pictures = [
        row.get("ctrl_img_1", row.get("ctrl_img")),
        *(row.get(name) for name in CONTROLS[1:]),
    ]
    return [picture for picture in pictures if isinstance(picture, str) and picture]

"""What kohya's trainers sample on the way: prompts from a file, and their options behind them."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from frisket.importers.files import place
from frisket.importers.flags.options import Flags
from frisket.importers.flags.run import Epoch, every
from frisket.media.captions import BadCaption, read_text

OPTION = re.compile(r" --([a-z]+)\s+(.*?)(?= --[a-z]+\s|$)")
Prompt = tuple[str, Mapping[str, str]]


def preview(flags: Flags, epoch: Epoch, *, trainer: str) -> dict[str, Any]:
    """`[preview]`; empty where there are no prompts to be found."""
    table = flags.at("sample_prompts")
    written = table.text("sample_prompts")
    if not written:
        return {}
    found = place(written, table.sheet.written.path.absolute().parent)[0]
    prompts = _prompts(found) if found and found.suffix == ".txt" else []
    if not prompts:
        said = f"{written} is no .txt with prompts that is there; write them into preview.prompts"
        table.say("sample_prompts", "no equivalent", said)
        return {}
    shared, differing = _shared([options for _, options in prompts])
    said = "is preview.prompts here, with what all of them ask for"
    if differing:
        said += (
            f"; they differ in {', '.join(f'--{each}' for each in differing)}, which is left out"
        )
    table.say("sample_prompts", "mapped", said)
    if trainer == "kohya" and "sample_every_n_epochs" in flags and "sample_every_n_steps" in flags:
        flags.say("sample_every_n_steps", "not needed", "sample_every_n_epochs goes before it")
        often = every(flags, "sample", epoch, section="preview") | {"every": 0}
    else:
        often = every(flags, "sample", epoch, section="preview")
    return often | {"prompts": [text for text, _ in prompts]} | _asked(shared)


def _prompts(file: Path) -> list[Prompt]:
    """The prompts of a file, one a line, with the options behind each."""
    try:
        lines = [line.strip() for line in read_text(file).splitlines()]
    except BadCaption:
        return []
    lines = [line for line in lines if line and not line.startswith("#")]
    return [(line.split(" --")[0].strip(), dict(OPTION.findall(line))) for line in lines]


def _shared(several: list[Mapping[str, str]]) -> tuple[dict[str, str], list[str]]:
    """Options that all prompts have with the same value, and the names of the others."""
    names = dict.fromkeys(name for options in several for name in options)
    same = {
        name: several[0][name].strip()
        for name in names
        if len({options.get(name) for options in several}) == 1
    }
    return same, [name for name in names if name not in same]


def _asked(options: Mapping[str, str]) -> dict[str, Any]:
    """Keys of `[preview]` for a prompt's options; a value that is no number is left out."""
    found: dict[str, Any] = {}
    for name, key in (("w", "width"), ("h", "height"), ("f", "frames"), ("s", "steps")):
        if options.get(name, "").isdecimal() and int(options[name]) > 0:
            found[key] = int(options[name])
    if options.get("d", "").isdecimal():
        found["seeds"] = [int(options["d"])]
    if options.get("n"):
        found["negative"] = options["n"]
    scale = options.get("g") or options.get("l", "")  # the model's own guidance goes before CFG
    if re.fullmatch(r"\d+(\.\d+)?", scale):
        found["guidance"] = float(scale)
    return found

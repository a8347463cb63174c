"""What kohya's trainers sample on the way: prompts from a file, and their options behind them."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from frisket.importers.files import locate
from frisket.importers.flags.options import Flags
from frisket.importers.flags.run import Epoch, map_interval
from frisket.media.captions import BadCaption, read_text

OPTION = re.compile(r" --([a-z]+)\s+(.*?)(?= --[a-z]+\s|$)")
Prompt = tuple[str, Mapping[str, str]]


def map_preview(flags: Flags, epoch: Epoch, *, trainer: str) -> dict[str, Any]:
    """`[preview]`; empty where there are no prompts to be found."""
    table = flags.at("sample_prompts")
    path = table.text("sample_prompts")
    if not path:
        return {}
    file = locate(path, table.sheet.written.path.absolute().parent)[0]
    prompts = _read_prompts(file) if file and file.suffix == ".txt" else []
    if not prompts:
        message = f"{path} is no .txt with prompts that is there; write them into preview.prompts"
        table.say("sample_prompts", "no equivalent", message)
        return {}
    shared, differing = _split_shared([options for _, options in prompts])
    message = "is preview.prompts here, with what all of them ask for"
    if differing:
        message += (
            f"; they differ in {', '.join(f'--{name}' for name in differing)}, which is left out"
        )
    table.say("sample_prompts", "mapped", message)
    if trainer == "kohya" and "sample_every_n_epochs" in flags and "sample_every_n_steps" in flags:
        flags.say("sample_every_n_steps", "not needed", "sample_every_n_epochs goes before it")
        often = map_interval(flags, "sample", epoch, section="preview") | {"every": 0}
    else:
        often = map_interval(flags, "sample", epoch, section="preview")
    return often | {"prompts": [text for text, _ in prompts]} | _map_options(shared)


def _read_prompts(file: Path) -> list[Prompt]:
    """The prompts of a file, one a line, with the options behind each."""
    try:
        lines = [line.strip() for line in read_text(file).splitlines()]
    except BadCaption:
        return []
    lines = [line for line in lines if line and not line.startswith("#")]
    return [(line.split(" --")[0].strip(), dict(OPTION.findall(line))) for line in lines]


def _split_shared(prompts: list[Mapping[str, str]]) -> tuple[dict[str, str], list[str]]:
    """Options that all prompts have with the same value, and the names of the others."""
    names = dict.fromkeys(name for options in prompts for name in options)
    shared = {
        name: prompts[0][name].strip()
        for name in names
        if len({options.get(name) for options in prompts}) == 1
    }
    return shared, [name for name in names if name not in shared]


def _map_options(options: Mapping[str, str]) -> dict[str, Any]:
    """Keys of `[preview]` for a prompt's options; a value that is no number is left out."""
    section: dict[str, Any] = {}
    for name, key in (("w", "width"), ("h", "height"), ("f", "frames"), ("s", "steps")):
        if options.get(name, "").isdecimal() and int(options[name]) > 0:
            section[key] = int(options[name])
    if options.get("d", "").isdecimal():
        section["seeds"] = [int(options["d"])]
    if options.get("n"):
        section["negative"] = options["n"]
    scale = options.get("g") or options.get("l", "")  # the model's own guidance goes before CFG
    if re.fullmatch(r"\d+(\.\d+)?", scale):
        section["guidance"] = float(scale)
    return section

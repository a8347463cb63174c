"""SimpleTuner's captions, as options of [[data]] and lists of clips."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from frisket.disk.untrusted import BadText, parse_json, show
from frisket.importers.base import BadImport
from frisket.importers.folders import (
    NO_CAPTIONS,
    build_manifest,
    find_file,
    list_clips,
    read_plain_text,
    scan_folder,
)
from frisket.importers.options import OptionTable, drop_unset
from frisket.importers.trainers.simpletuner.resolution import owner_of

DROPPED = 0.1  # its default of caption_dropout_probability
Manifests = dict[str, tuple[dict[str, Any], ...]]  # lists of clips, by the name of their file


def captions_of(
    row: OptionTable, trainer: OptionTable, clips: Path, skip: list[Path], manifests: Manifests
) -> dict[str, Any]:
    """Where captions come from, and what is done to them, as options of [[data]].

    Those that stand in no file beside their clip go into a list of the clips, into `manifests`.
    `skip` are folders in `clips` that hold masks and references.
    """
    owner = owner_of(row, trainer, "caption_strategy")
    strategy = owner.text("caption_strategy", "filename").lower()
    prompt = owner_of(row, trainer, "instance_prompt").text("instance_prompt")
    if row.flag("only_instance_prompt", default=trainer.flag("only_instance_prompt")):
        strategy = "instanceprompt"
    first = row.flag("prepend_instance_prompt", default=trainer.flag("prepend_instance_prompt"))
    captions: dict[str, Any] = {}
    if strategy == "instanceprompt":
        if not prompt:
            raise row.bad("instance_prompt", "is needed for caption_strategy instanceprompt")
        captions = {"caption": prompt, "caption_extension": NO_CAPTIONS}
        return captions | drop_unset(caption_dropout=_read_dropout(trainer)) | _read_shuffle(row)
    if strategy == "filename":
        # Said of the option even where it is not written: its default is not ours.
        paths = list_clips(clips, skip)
        captions = _list_clips(
            row, manifests, clips, paths, lambda path: path.stem.replace("_", " ")
        )
        message = (
            f"is data.clips = {captions['clips']} here, where captions are names without their _"
        )
        owner.say("caption_strategy", "mapped", message, "filename")
    elif strategy == "parquet":
        captions = _read_table(row, manifests, clips, skip)
    elif strategy == "textfile":
        captions = _read_texts(row, clips, skip, owner)
    else:
        message = f"captions of {strategy} are not read: write .txt files beside the clips"
        owner.say("caption_strategy", "no equivalent", message)
    template = f"{prompt} {{caption}}" if first and prompt else None
    dropout = _read_dropout(trainer)
    return captions | drop_unset(template=template, caption_dropout=dropout) | _read_shuffle(row)


def _read_dropout(trainer: OptionTable) -> float | None:
    """The share of captions left out; a tenth by default, where the settings are known."""
    name = "caption_dropout_probability"
    if not trainer.values:
        return None
    trainer.say(name, "mapped", "is data.caption_dropout here", DROPPED)
    return trainer.number(name, DROPPED, low=0) or None


def _read_texts(
    row: OptionTable, clips: Path, skip: list[Path], owner: OptionTable
) -> dict[str, Any]:
    if row.flag("disable_multiline_split"):
        return {"caption_part": "file"}
    scan = scan_folder(clips, skip=skip)
    if scan.bare:
        message = f"{scan.bare} clips without a caption stop it; here they have an empty one"
        owner.say("caption_strategy", "no equivalent", f"{message}: caption them", "textfile")
    if scan.lined:
        message = (
            f"{scan.lined} captions have several lines: it draws one of them, here the first is"
        )
        owner.say("caption_strategy", "no equivalent", f"{message} taken", "textfile")
    return {"caption_part": "line"}


def _list_clips(
    row: OptionTable,
    manifests: Manifests,
    clips: Path,
    paths: Any,
    caption: Callable[[Path], str | None],
) -> dict[str, Any]:
    name = re.sub(r"[^\w.-]+", "-", row.text("id")) + ".jsonl"
    manifests[name] = build_manifest(clips, paths, caption)
    return {"clips": name}


def _read_table(
    row: OptionTable, manifests: Manifests, clips: Path, skip: list[Path]
) -> dict[str, Any]:
    """Captions of a file of JSON lines; of a parquet file there are none."""
    table = row.table("parquet", "parquet")
    file = find_file(table, "path")
    if file.suffix.lower() not in (".jsonl", ".json"):
        message = f"{file.name} is not read: write its captions to a .jsonl of the same columns"
        table.say("path", "no equivalent", message)
        table.close()
        return {}
    name, caption = table.text("filename_column", "id"), table.text("caption_column", "caption")
    spare = table.text("fallback_caption_column")
    with_extension = table.flag("identifier_includes_extension")
    captions: dict[str, str] = {}
    for number, line in enumerate(read_plain_text(file).splitlines(), 1):
        try:
            entry = parse_json(line) if line.strip() else {}
        except BadText as error:
            raise BadImport(f"{file} line {number}: not JSON ({error.message})") from error
        if not isinstance(entry, dict):
            raise BadImport(f"{file} line {number}: is {show(entry)}, a JSON object is needed")
        text = entry.get(caption) or entry.get(spare) or ""
        captions[str(entry.get(name))] = str(text[0] if isinstance(text, list) else text)
    table.close()

    def find_caption(path: Path) -> str | None:
        return captions.get(path.name if with_extension else path.stem)

    listing = _list_clips(row, manifests, clips, list_clips(clips, skip), find_caption)
    message = (
        f"is data.clips = {listing['clips']} here, a manifest with the captions of {file.name}"
    )
    row.say("caption_strategy", "mapped", message)
    return listing


def _read_shuffle(row: OptionTable) -> dict[str, Any]:
    table = row.table("caption_shuffle", "shuffle")
    on = table.flag("enable")
    if on and table.text("split_on", "comma") != "comma":
        message = "tags are cut at commas here: put commas into the captions"
        table.say("split_on", "no equivalent", message)
    keep = table.whole("position_start")
    table.close()
    return drop_unset(shuffle_tags=True, keep_tags=keep or None) if on else {}

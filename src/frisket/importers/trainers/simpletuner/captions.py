"""SimpleTuner's captions, as options of [[data]] and lists of clips."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from frisket.disk.untrusted import BadText, parse_json, shown
from frisket.importers.base import BadLayout
from frisket.importers.folders import NO_CAPTIONS, clips_in, file_at, look, manifest_of, text_of
from frisket.importers.options import Table, filled
from frisket.importers.trainers.simpletuner.resolution import owner_of

DROPPED = 0.1  # its default of caption_dropout_probability
Manifests = dict[str, tuple[dict[str, Any], ...]]  # lists of clips, by the name of their file


def captions_of(
    row: Table, trainer: Table, clips: Path, skip: list[Path], manifests: Manifests
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
    found: dict[str, Any] = {}
    if strategy == "instanceprompt":
        if not prompt:
            raise row.bad("instance_prompt", "is needed for caption_strategy instanceprompt")
        found = {"caption": prompt, "caption_extension": NO_CAPTIONS}
        return found | filled(caption_dropout=_dropout(trainer)) | _shuffled(row)
    if strategy == "filename":
        # Said of the option even where it is not written: its default is not ours.
        paths = clips_in(clips, skip)
        found = _listed(row, manifests, clips, paths, lambda path: path.stem.replace("_", " "))
        said = f"is data.clips = {found['clips']} here, where captions are names without their _"
        owner.say("caption_strategy", "mapped", said, "filename")
    elif strategy == "parquet":
        found = _table(row, manifests, clips, skip)
    elif strategy == "textfile":
        found = _texts(row, clips, skip, owner)
    else:
        said = f"captions of {strategy} are not read: write .txt files beside the clips"
        owner.say("caption_strategy", "no equivalent", said)
    template = f"{prompt} {{caption}}" if first and prompt else None
    dropout = _dropout(trainer)
    return found | filled(template=template, caption_dropout=dropout) | _shuffled(row)


def _dropout(trainer: Table) -> float | None:
    """The share of captions left out; a tenth by default, where the settings are known."""
    name = "caption_dropout_probability"
    if not trainer.values:
        return None
    trainer.say(name, "mapped", "is data.caption_dropout here", DROPPED)
    return trainer.number(name, DROPPED, low=0) or None


def _texts(row: Table, clips: Path, skip: list[Path], owner: Table) -> dict[str, Any]:
    if row.flag("disable_multiline_split"):
        return {"caption_part": "file"}
    seen = look(clips, skip=skip)
    if seen.bare:
        said = f"{seen.bare} clips without a caption stop it; here they have an empty one"
        owner.say("caption_strategy", "no equivalent", f"{said}: caption them", "textfile")
    if seen.lined:
        said = f"{seen.lined} captions have several lines: it draws one of them, here the first is"
        owner.say("caption_strategy", "no equivalent", f"{said} taken", "textfile")
    return {"caption_part": "line"}


def _listed(
    row: Table,
    manifests: Manifests,
    clips: Path,
    paths: Any,
    caption: Callable[[Path], str | None],
) -> dict[str, Any]:
    name = re.sub(r"[^\w.-]+", "-", row.text("id")) + ".jsonl"
    manifests[name] = manifest_of(clips, paths, caption)
    return {"clips": name}


def _table(row: Table, manifests: Manifests, clips: Path, skip: list[Path]) -> dict[str, Any]:
    """Captions of a file of JSON lines; of a parquet file there are none."""
    table = row.table("parquet", "parquet")
    file = file_at(table, "path")
    if file.suffix.lower() not in (".jsonl", ".json"):
        said = f"{file.name} is not read: write its captions to a .jsonl of the same columns"
        table.say("path", "no equivalent", said)
        table.close()
        return {}
    name, caption = table.text("filename_column", "id"), table.text("caption_column", "caption")
    spare = table.text("fallback_caption_column")
    whole = table.flag("identifier_includes_extension")
    captions: dict[str, str] = {}
    for number, line in enumerate(text_of(file).splitlines(), 1):
        try:
            entry = parse_json(line) if line.strip() else {}
        except BadText as error:
            raise BadLayout(f"{file} line {number}: not JSON ({error.said})") from error
        if not isinstance(entry, dict):
            raise BadLayout(f"{file} line {number}: is {shown(entry)}, a JSON object is needed")
        given = entry.get(caption) or entry.get(spare) or ""
        captions[str(entry.get(name))] = str(given[0] if isinstance(given, list) else given)
    table.close()

    def of(path: Path) -> str | None:
        return captions.get(path.name if whole else path.stem)

    found = _listed(row, manifests, clips, clips_in(clips, skip), of)
    said = f"is data.clips = {found['clips']} here, a manifest with the captions of {file.name}"
    row.say("caption_strategy", "mapped", said)
    return found


def _shuffled(row: Table) -> dict[str, Any]:
    table = row.table("caption_shuffle", "shuffle")
    on = table.flag("enable")
    if on and table.text("split_on", "comma") != "comma":
        said = "tags are cut at commas here: put commas into the captions"
        table.say("split_on", "no equivalent", said)
    keep = table.whole("position_start")
    table.close()
    return filled(shuffle_tags=True, keep_tags=keep or None) if on else {}

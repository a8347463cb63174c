"""What was sampled from the page: a folder a call, with its settings, its command and its files."""

import json
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from frisket.disk.atomic import replacing
from frisket.disk.untrusted import BadText, parse_json, read_text
from frisket.studio.runs.artefacts import VIDEO, make_address
from frisket.studio.runs.samples import list_pictures, read_record
from frisket.studio.workspace import UnknownId

FOLDER = "generated"  # below the opened folder: pictures are the user's, and not hidden
SETTINGS = "studio.json"
MOST = 200  # calls that are listed, the newest
_NUMBER = re.compile(r"\d{3,6}")
_PICTURE = re.compile(r"(\d{3})-.*-(\d+)(-base|-lora)?\.(png|mp4)")


@dataclass(frozen=True, slots=True)
class GeneratedCall:
    """One call of `generate` that the page made."""

    id: str
    folder: Path
    settings: Mapping[str, Any]

    @property
    def base(self) -> str:
        """The address its files are served below."""
        return f"/api/generated/{self.id}"


def make_folder(root: Path) -> Path:
    """A new folder for a call's pictures, the next number; two calls at once get two."""
    for number in count(1):
        folder = root / FOLDER / f"{number:03d}"
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        return folder
    raise AssertionError("the numbers never end")


def write_settings(folder: Path, settings: Mapping[str, Any]) -> None:
    """Keep beside the pictures what was asked for."""
    text = json.dumps({"at": time.time(), **settings}, indent=1, ensure_ascii=False)
    with replacing(folder / SETTINGS) as draft:
        draft.write_text(text + "\n", encoding="utf-8")


def list_calls(root: Path) -> Iterator[GeneratedCall]:
    """The calls, the newest first."""
    folders = [
        folder
        for folder in (root / FOLDER).glob("*")
        if _NUMBER.fullmatch(folder.name) and not folder.is_symlink()
    ]
    for folder in sorted(folders, key=lambda folder: int(folder.name), reverse=True)[:MOST]:
        if (folder / SETTINGS).is_file():
            yield read_call(folder)


def find_call(root: Path, call_id: str) -> GeneratedCall:
    """The call of a number; UnknownId where no folder has it."""
    folder = root / FOLDER / call_id
    if not _NUMBER.fullmatch(call_id) or folder.is_symlink() or not folder.is_dir():
        raise UnknownId(f"no pictures here have the number {call_id[:20]!r}")
    return read_call(folder)


def read_call(folder: Path) -> GeneratedCall:
    """A call by its folder; without settings where they cannot be read."""
    try:
        settings = parse_json(read_text(folder / SETTINGS, 16 << 20))
    except (BadText, OSError):
        settings = {}
    return GeneratedCall(folder.name, folder, settings if isinstance(settings, dict) else {})


def describe_call(call: GeneratedCall) -> dict[str, Any]:
    """A call as the page shows it: its pictures so far, each with what it was made from."""
    record = read_record(call.folder / "generate.json")
    pictures = list(_list_recorded(call, record)) or list(_list_partial(call))
    return {
        "id": call.id,
        "at": call.settings.get("at"),
        "job": call.settings.get("job"),
        "command": call.settings.get("command"),
        "form": call.settings.get("form"),
        "done": bool(record),
        "folder": str(call.folder),
        "pictures": pictures,
    }


def _list_recorded(call: GeneratedCall, record: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for shot, picture in list_pictures(record):
        address = make_address(call.base, call.folder, picture["file"])
        if address:
            yield {
                "url": address,
                "video": picture["file"].endswith(VIDEO),
                "lora": bool(picture.get("lora")),
                "prompt": shot.prompt,
                "negative": shot.negative,
                "seed": shot.seed,
                "width": shot.width,
                "height": shot.height,
                "frames": shot.frames,
                "steps": picture.get("steps"),
                "guidance": picture.get("guidance"),
            }


def _list_partial(call: GeneratedCall) -> Iterator[dict[str, Any]]:
    """Pictures of a call that is still at work: the names of their files say the seed."""
    form = call.settings.get("form")
    has_lora = bool(form.get("loras")) if isinstance(form, dict) else False
    for path in sorted(call.folder.glob("[0-9][0-9][0-9]-*")):
        match = _PICTURE.fullmatch(path.name)
        address = make_address(call.base, call.folder, path.name)
        if match and address:
            yield {
                "url": address,
                "video": path.suffix == VIDEO,
                "lora": match[3] == "-lora" or (match[3] is None and has_lora),
                "prompt": "",
                "negative": "",
                "seed": int(match[2]),
            }


def remove_call(root: Path, home: Path, call_id: str) -> str:
    """Move a call's folder to the trash; returns what `restore_call` takes. UnknownId."""
    call = find_call(root, call_id)
    trash = home / "trash" / FOLDER
    trash.mkdir(parents=True, exist_ok=True)
    name = f"{call_id}-{time.time_ns():x}"
    call.folder.rename(trash / name)
    return name


def restore_call(root: Path, home: Path, name: str) -> str:
    """Bring a call back from the trash, under its number; UnknownId where it is not there."""
    number, _, rest = name.partition("-")
    folder, place = home / "trash" / FOLDER / name, root / FOLDER / number
    if not _NUMBER.fullmatch(number) or not rest.isalnum() or not folder.is_dir():
        raise UnknownId("these pictures are not in the trash any more")
    if place.exists():
        place = make_folder(root)
        place.rmdir()
    folder.rename(place)
    return place.name

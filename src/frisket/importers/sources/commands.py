"""Command lines: scripts of POSIX shells, PowerShell and Windows, and notebooks."""

import codecs
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from frisket.disk.toml_lines import Key
from frisket.disk.untrusted import MODEL, BadText, read_bytes, read_text
from frisket.importers.base import BadLayout, Note
from frisket.importers.files import Written, place
from frisket.importers.shells import batch, notebook
from frisket.importers.shells.launches import (
    PROCESSES,
    Launch,
    launches_of,
    strange_of,
    stray_option,
)
from frisket.importers.shells.options import BadOption, Given, parse
from frisket.importers.shells.posix import script as posix
from frisket.importers.shells.powershell import script as powershell
from frisket.importers.shells.words import Command, Unreadable, Word
from frisket.importers.source_base import Form, Role, Source, Sources

READERS: Mapping[str, Callable[[str], list[Command]]] = {
    **dict.fromkeys(
        (".sh", ".bash", ".zsh", ".command"), lambda text: posix.read_script(text).commands
    ),
    **dict.fromkeys((".bat", ".cmd"), batch.read_script),
    ".ps1": powershell.read_script,
    ".ipynb": notebook.read_notebook,
}
GOES_ON = {".bat": "^", ".cmd": "^", ".ps1": "`"}  # else a backslash
FOLDERS = ("dataset_config", "train_data_dir", "reg_data_dir", "in_json", "conditioning_data_dir")
DATA = ("dataset_config", "config_file", "train_data_dir", "in_json")
WRITES = re.compile(
    r"toml\.dump|yaml\.dump|json\.dump|\.toml[\"'], *[\"']w|writefile|>\s*\S+\.toml"
)
STRANGE = "whose options are not known here: write them as sd-scripts or musubi-tuner have them"
KNOWN = (
    "accelerate launch ... train_network.py (sd-scripts, musubi-tuner), run.py job.yaml"
    " (ai-toolkit), train.py --config x.toml (diffusion-pipe), train.py --config-path x.json"
    " (OneTrainer), train.sh (SimpleTuner)"
)


def suits(path: Path) -> bool:
    """A script or notebook by its suffix."""
    return path.suffix.lower() in READERS


def read(path: Path, command: int | None = None) -> Sources:
    """The training that a script starts, or the one of several that is asked for."""
    text = _text(path)
    suffix = path.suffix.lower()
    commands = _commands(path, text, suffix)
    if stray_option(commands) and suffix != ".ipynb" and "^\n" in text.replace("\r", ""):
        commands = _commands(path, text, ".bat")  # a command of Windows, in a file of another kind
    launches = launches_of(commands)
    if not launches:
        if (word := strange_of(commands)) is not None and not WRITES.search(text):
            raise BadLayout(f"{path} line {word.line}: starts {word.told[-80:]}, {STRANGE}")
        raise BadLayout(f"{path}: starts no training that is known here{_instead(text)}")
    if word := stray_option(commands):
        sign = GOES_ON.get(suffix, "\\")
        raise BadLayout(
            f"{path} line {word.line}: begins with {word.told[:60]}, but the command above ends"
            f" before it: let the line above end in {sign}, nothing behind it and no comment"
        )
    launch = _chosen(path, launches, command)
    try:
        return _source(path, launch, writes=bool(WRITES.search(text)))
    except BadOption as error:
        raise BadLayout(f"{path}{_line(launch, error.word.line)}: {error.message}") from error


def _commands(path: Path, text: str, suffix: str) -> list[Command]:
    try:
        return READERS[suffix](text)
    except Unreadable as error:
        raise BadLayout(f"{path} line {error.line}: {error.message}") from error
    except RecursionError as error:
        raise BadLayout(f"{path}: is nested too deep; is it the right file?") from error


def _text(path: Path) -> str:
    """The text of a script: PowerShell writes UTF-16, old files hold letters of a code page.

    Such letters cannot be known here, and what depends on them is asked for.
    """
    try:
        if path.suffix.lower() == ".ipynb":
            return read_text(path, MODEL)
        raw = read_bytes(path)
    except OSError as error:
        raise BadLayout(f"{path}: cannot be read ({error.strerror})") from error
    except BadText as error:
        raise BadLayout(f"{path}: {error.message}") from error
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return raw.decode("utf-16", errors="replace")
    if b"\0" in raw:
        raise BadLayout(f"{path}: is binary (it holds NUL bytes); is it the right file?")
    return raw.decode("utf-8-sig", errors="replace")


def _instead(text: str) -> str:
    """What to do about a file without a training of its own."""
    if WRITES.search(text):
        return (
            "; it writes the trainer's files itself: run it there, and import what it writes"
            " (for sd-scripts: frisket import training_config.toml dataset_config.toml)"
        )
    return f": {KNOWN}. Give the script that does, or the files it names"


def _chosen(path: Path, launches: Sequence[Launch], command: int | None) -> Launch:
    if command is not None:
        if not 1 <= command <= len(launches):
            raise BadLayout(f"{path}: there is no command {command}; {_listed(launches)}")
        return launches[command - 1]
    first = launches[0]
    if all(_same(each, first) for each in launches[1:]):
        return first
    raise BadLayout(f"{path}: starts several trainings; {_listed(launches)}. Say --command N")


def _same(left: Launch, right: Launch) -> bool:
    words = [[word.text for word in each.words] for each in (left, right)]
    return left.script == right.script and words[0] == words[1] and left.files == right.files


def _listed(launches: Sequence[Launch]) -> str:
    rows = (f"{number}: {launch.told}" for number, launch in enumerate(launches[:20], 1))
    more = f"; and {len(launches) - 20} more" if len(launches) > 20 else ""
    return "it has " + "; ".join(rows) + more


def _line(launch: Launch, line: int) -> str:
    cell = f" cell {launch.command.cell}" if launch.command.cell else ""
    return f"{cell} line {line}"


def _source(path: Path, launch: Launch, *, writes: bool) -> Sources:
    if launch.files:
        return tuple(_named(path, launch, word) for word in launch.files[:1])
    _refuse_other_training(path, launch)
    given = parse(launch.words, launch.trainer, launch.script)
    if not any(option in given.tree for option in DATA):
        _refuse_unknown(path, launch, given, writes=writes)
    notes = [*_whole(launch), *_notes(launch, given), *_processes(launch)]
    for option in FOLDERS:
        if isinstance(value := given.tree.get(option), str):
            given.tree[option] = _from_folder(value, path, launch)
    _accelerate(launch, given)
    rest = _list_config_files(path, launch, given)
    lines: dict[Key, int] = (
        {} if launch.command.cell else {(name,): at for name, at in given.lines.items()}
    )
    role: Role = "both" if {"train_data_dir", "in_json"} & set(given.tree) else "training"
    form = f"the command in{_line(launch, launch.command.line)}"
    written = Written(path, given.tree, lines)
    return (Source(launch.trainer, role, form, written, launch.script, tuple(notes)), *rest)


def _refuse_other_training(path: Path, launch: Launch) -> None:
    """Refuse a script that trains no LoRA and no model, by its name."""
    if match := re.search(r"control_?net|textual_inversion", launch.script):
        kind = "an embedding" if match[0].startswith("textual") else "a ControlNet"
        at = f"{path}{_line(launch, launch.command.line)}"
        raise BadLayout(f"{at}: {launch.script} trains {kind}; Frisket trains LoRAs alone")


def _list_config_files(path: Path, launch: Launch, given: Given) -> list[Path]:
    """The file that `--config_file` names, which leaves the options: it is read beside them."""
    name = given.tree.pop("config_file", None)
    if not isinstance(name, str):
        return []
    name = name if name.endswith(".toml") else f"{name}.toml"  # as the trainers do
    return [_named(path, launch, Word(name, given.lines["config_file"]))]


def _refuse_unknown(path: Path, launch: Launch, given: Given, *, writes: bool) -> None:
    """Refuse a command whose options are put together while the file runs."""
    if (word := next((each for each in given.stray if each.unknown), None)) is None:
        return
    do = "run it there with echo before the command, and import what that prints"
    if writes:
        do = (
            "it writes the trainer's files itself: run it there, and import what it writes"
            " (frisket import training_config.toml dataset_config.toml)"
        )
    at = f"{path}{_line(launch, word.line)}"
    said = f"all options come from {word.told[:60]}, which the file works out as it runs"
    raise BadLayout(f"{at}: {said}; {do}")


def _whole(launch: Launch) -> list[Note]:
    """A note on a script that trains all of a model."""
    if "train_network" in launch.script:
        return []
    said = (
        "trains the whole model; here a LoRA is trained, of the size in [lora]: its rate is best"
        " several times higher (1e-4 is usual)"
    )
    line = None if launch.command.cell else launch.command.line
    return [Note("script", launch.script, "no equivalent", said, line)]


def _notes(launch: Launch, given: Given) -> list[Note]:
    """What the command line leaves open."""
    line = None if launch.command.cell else launch.command.line
    notes = [
        Note(
            f"--{option}",
            told,
            "no equivalent",
            "holds what the file does not set; it is left out here",
            None if launch.command.cell else given.lines[option],
        )
        for option, told in given.open.items()
    ]
    for word in given.stray:
        said = "is no option"
        if word.unknown:
            said = "is not set in the file: options that it holds are not read, write them out"
        if word.text:
            notes.append(Note(word.told, word.told, "no equivalent", said, line and word.line))
    return notes


def _processes(launch: Launch) -> list[Note]:
    """A note on several processes, which make larger batches."""
    for number, word in enumerate(launch.before):
        name, equals, value = word.text.partition("=")
        following = launch.before[number + 1].text if len(launch.before) > number + 1 else ""
        count = value if equals else following
        if name in PROCESSES and count.isdigit() and int(count) > 1:
            said = (
                f"{count} processes draw a batch each and a step is made of all; here one does:"
                f" multiply optimizer.accumulate by {count} for the same steps"
            )
            at = None if launch.command.cell else word.line
            return [Note(name, int(count), "no equivalent", said, at)]
    return []


def _accelerate(launch: Launch, given: Given) -> None:
    """musubi-tuner takes accelerate's precision where it has none of its own."""
    if launch.trainer != "musubi" or "mixed_precision" in given.tree:
        return
    for number, word in enumerate(launch.before):
        name, equals, value = word.text.partition("=")
        if name in ("--mixed_precision", "--mixed-precision"):
            following = launch.before[number + 1] if len(launch.before) > number + 1 else word
            given.tree["mixed_precision"] = value if equals else following.text
            given.lines["mixed_precision"] = word.line


def _from_folder(value: str, path: Path, launch: Launch) -> str:
    """A path as seen from the script's folder, where a `cd` led to it."""
    folder = launch.command.folder
    if not folder or not value or place(value, path.parent)[0] is not None:
        return value
    inside = f"{folder}/{value}"
    return inside if place(inside, path.parent)[0] is not None else value


def _named(path: Path, launch: Launch, word: Word) -> Path:
    """A file that a command names, or of SimpleTuner the one in a folder it names."""
    at = f"{path}{_line(launch, word.line)}"
    if word.unknown:
        name = word.unknown[0]
        raise BadLayout(f"{at}: {word.told}: {name} is not set in the file: write its value there")
    names = [word.text]
    if launch.trainer == "simpletuner":
        names = [f"{word.text}/config.{suffix}" for suffix in ("json", "toml", "env")]
    for name in names:
        found = place(_from_folder(name, path, launch), path.parent)[0]
        if found is not None and found.is_file():
            return found
    tried = " or ".join(names)
    raise BadLayout(
        f"{at}: {launch.script} reads {tried}, which is not here: put it beside {path.name}"
    )


FORM = Form("a script or notebook that starts a training: .sh .bat .ps1 .ipynb", suits, read)

"""Command lines: scripts of POSIX shells, PowerShell and Windows, and notebooks."""

import codecs
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from frisket.disk.toml_lines import Key
from frisket.disk.untrusted import MODEL, BadText, read_bytes, read_text
from frisket.importers.base import BadImport, Note
from frisket.importers.files import Written, locate
from frisket.importers.shells import batch, notebook
from frisket.importers.shells.launches import (
    PROCESSES,
    Launch,
    find_strange_script,
    find_stray_option,
    list_launches,
)
from frisket.importers.shells.options import BadShellOption, ParsedOptions, parse
from frisket.importers.shells.posix import script as posix
from frisket.importers.shells.powershell import script as powershell
from frisket.importers.shells.words import ShellCommand, UnreadableScript, Word
from frisket.importers.source_base import ConfigSource, SourceForm, SourceRole, Sources

READERS: Mapping[str, Callable[[str], list[ShellCommand]]] = {
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


def matches(path: Path) -> bool:
    """A script or notebook by its suffix."""
    return path.suffix.lower() in READERS


def read(path: Path, command: int | None = None) -> Sources:
    """The training that a script starts, or the one of several that is asked for."""
    text = _read_script_text(path)
    suffix = path.suffix.lower()
    commands = _read_commands(path, text, suffix)
    if find_stray_option(commands) and suffix != ".ipynb" and "^\n" in text.replace("\r", ""):
        commands = _read_commands(
            path, text, ".bat"
        )  # a command of Windows, in a file of another kind
    launches = list_launches(commands)
    if not launches:
        if (word := find_strange_script(commands)) is not None and not WRITES.search(text):
            raise BadImport(f"{path} line {word.line}: starts {word.label[-80:]}, {STRANGE}")
        raise BadImport(f"{path}: starts no training that is known here{_suggest_instead(text)}")
    if word := find_stray_option(commands):
        sign = GOES_ON.get(suffix, "\\")
        raise BadImport(
            f"{path} line {word.line}: begins with {word.label[:60]}, but the command above ends"
            f" before it: let the line above end in {sign}, nothing behind it and no comment"
        )
    launch = _choose_launch(path, launches, command)
    try:
        return _read_launch(path, launch, writes=bool(WRITES.search(text)))
    except BadShellOption as error:
        raise BadImport(
            f"{path}{_format_line(launch, error.word.line)}: {error.message}"
        ) from error


def _read_commands(path: Path, text: str, suffix: str) -> list[ShellCommand]:
    try:
        return READERS[suffix](text)
    except UnreadableScript as error:
        raise BadImport(f"{path} line {error.line}: {error.message}") from error
    except RecursionError as error:
        raise BadImport(f"{path}: is nested too deep; is it the right file?") from error


def _read_script_text(path: Path) -> str:
    """The text of a script: PowerShell writes UTF-16, old files hold letters of a code page.

    Such letters cannot be known here, and what depends on them is asked for.
    """
    try:
        if path.suffix.lower() == ".ipynb":
            return read_text(path, MODEL)
        raw = read_bytes(path)
    except OSError as error:
        raise BadImport(f"{path}: cannot be read ({error.strerror})") from error
    except BadText as error:
        raise BadImport(f"{path}: {error.message}") from error
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return raw.decode("utf-16", errors="replace")
    if b"\0" in raw:
        raise BadImport(f"{path}: is binary (it holds NUL bytes); is it the right file?")
    return raw.decode("utf-8-sig", errors="replace")


def _suggest_instead(text: str) -> str:
    """What to do about a file without a training of its own."""
    if WRITES.search(text):
        return (
            "; it writes the trainer's files itself: run it there, and import what it writes"
            " (for sd-scripts: frisket import training_config.toml dataset_config.toml)"
        )
    return f": {KNOWN}. Give the script that does, or the files it names"


def _choose_launch(path: Path, launches: Sequence[Launch], command: int | None) -> Launch:
    if command is not None:
        if not 1 <= command <= len(launches):
            raise BadImport(f"{path}: there is no command {command}; {_list_launches(launches)}")
        return launches[command - 1]
    first = launches[0]
    if all(_is_same(launch, first) for launch in launches[1:]):
        return first
    raise BadImport(
        f"{path}: starts several trainings; {_list_launches(launches)}. Say --command N"
    )


def _is_same(left: Launch, right: Launch) -> bool:
    words = [[word.text for word in launch.words] for launch in (left, right)]
    return left.script == right.script and words[0] == words[1] and left.files == right.files


def _list_launches(launches: Sequence[Launch]) -> str:
    rows = (f"{number}: {launch.label}" for number, launch in enumerate(launches[:20], 1))
    more = f"; and {len(launches) - 20} more" if len(launches) > 20 else ""
    return "it has " + "; ".join(rows) + more


def _format_line(launch: Launch, line: int) -> str:
    cell = f" cell {launch.command.cell}" if launch.command.cell else ""
    return f"{cell} line {line}"


def _read_launch(path: Path, launch: Launch, *, writes: bool) -> Sources:
    if launch.files:
        return tuple(_find_named_file(path, launch, word) for word in launch.files[:1])
    _refuse_other_training(path, launch)
    options = parse(launch.words, launch.trainer, launch.script)
    if not any(option in options.tree for option in DATA):
        _refuse_unknown(path, launch, options, writes=writes)
    notes = [*_note_whole_model(launch), *_note_open(launch, options), *_note_processes(launch)]
    for option in FOLDERS:
        if isinstance(value := options.tree.get(option), str):
            options.tree[option] = _from_folder(value, path, launch)
    _take_accelerate_precision(launch, options)
    rest = _list_config_files(path, launch, options)
    lines: dict[Key, int] = (
        {} if launch.command.cell else {(name,): at for name, at in options.lines.items()}
    )
    role: SourceRole = "both" if {"train_data_dir", "in_json"} & set(options.tree) else "training"
    form = f"the command in{_format_line(launch, launch.command.line)}"
    written = Written(path, options.tree, lines)
    return (ConfigSource(launch.trainer, role, form, written, launch.script, tuple(notes)), *rest)


def _refuse_other_training(path: Path, launch: Launch) -> None:
    """Refuse a script that trains no LoRA and no model, by its name."""
    if match := re.search(r"control_?net|textual_inversion", launch.script):
        kind = "an embedding" if match[0].startswith("textual") else "a ControlNet"
        at = f"{path}{_format_line(launch, launch.command.line)}"
        raise BadImport(f"{at}: {launch.script} trains {kind}; Frisket trains LoRAs alone")


def _list_config_files(path: Path, launch: Launch, options: ParsedOptions) -> list[Path]:
    """The file that `--config_file` names, which leaves the options: it is read beside them."""
    name = options.tree.pop("config_file", None)
    if not isinstance(name, str):
        return []
    name = name if name.endswith(".toml") else f"{name}.toml"  # as the trainers do
    return [_find_named_file(path, launch, Word(name, options.lines["config_file"]))]


def _refuse_unknown(path: Path, launch: Launch, options: ParsedOptions, *, writes: bool) -> None:
    """Refuse a command whose options are put together while the file runs."""
    if (word := next((stray for stray in options.stray if stray.unknown), None)) is None:
        return
    do = "run it there with echo before the command, and import what that prints"
    if writes:
        do = (
            "it writes the trainer's files itself: run it there, and import what it writes"
            " (frisket import training_config.toml dataset_config.toml)"
        )
    at = f"{path}{_format_line(launch, word.line)}"
    message = f"all options come from {word.label[:60]}, which the file works out as it runs"
    raise BadImport(f"{at}: {message}; {do}")


def _note_whole_model(launch: Launch) -> list[Note]:
    """A note on a script that trains all of a model."""
    if "train_network" in launch.script:
        return []
    message = (
        "trains the whole model; here a LoRA is trained, of the size in [lora]: its rate is best"
        " several times higher (1e-4 is usual)"
    )
    line = None if launch.command.cell else launch.command.line
    return [Note("script", launch.script, "no equivalent", message, line)]


def _note_open(launch: Launch, options: ParsedOptions) -> list[Note]:
    """What the command line leaves open."""
    line = None if launch.command.cell else launch.command.line
    notes = [
        Note(
            f"--{option}",
            text,
            "no equivalent",
            "holds what the file does not set; it is left out here",
            None if launch.command.cell else options.lines[option],
        )
        for option, text in options.open.items()
    ]
    for word in options.stray:
        message = "is no option"
        if word.unknown:
            message = "is not set in the file: options that it holds are not read, write them out"
        if word.text:
            notes.append(Note(word.label, word.label, "no equivalent", message, line and word.line))
    return notes


def _note_processes(launch: Launch) -> list[Note]:
    """A note on several processes, which make larger batches."""
    for number, word in enumerate(launch.before):
        name, equals, value = word.text.partition("=")
        following = launch.before[number + 1].text if len(launch.before) > number + 1 else ""
        count = value if equals else following
        if name in PROCESSES and count.isdigit() and int(count) > 1:
            message = (
                f"{count} processes draw a batch each and a step is made of all; here one does:"
                f" multiply optimizer.accumulate by {count} for the same steps"
            )
            at = None if launch.command.cell else word.line
            return [Note(name, int(count), "no equivalent", message, at)]
    return []


def _take_accelerate_precision(launch: Launch, options: ParsedOptions) -> None:
    """musubi-tuner takes accelerate's precision where it has none of its own."""
    if launch.trainer != "musubi" or "mixed_precision" in options.tree:
        return
    for number, word in enumerate(launch.before):
        name, equals, value = word.text.partition("=")
        if name in ("--mixed_precision", "--mixed-precision"):
            following = launch.before[number + 1] if len(launch.before) > number + 1 else word
            options.tree["mixed_precision"] = value if equals else following.text
            options.lines["mixed_precision"] = word.line


def _from_folder(value: str, path: Path, launch: Launch) -> str:
    """A path as seen from the script's folder, where a `cd` led to it."""
    folder = launch.command.folder
    if not folder or not value or locate(value, path.parent)[0] is not None:
        return value
    inside = f"{folder}/{value}"
    return inside if locate(inside, path.parent)[0] is not None else value


def _find_named_file(path: Path, launch: Launch, word: Word) -> Path:
    """A file that a command names, or of SimpleTuner the one in a folder it names."""
    at = f"{path}{_format_line(launch, word.line)}"
    if word.unknown:
        name = word.unknown[0]
        raise BadImport(f"{at}: {word.label}: {name} is not set in the file: write its value there")
    names = [word.text]
    if launch.trainer == "simpletuner":
        names = [f"{word.text}/config.{suffix}" for suffix in ("json", "toml", "env")]
    for name in names:
        file = locate(_from_folder(name, path, launch), path.parent)[0]
        if file is not None and file.is_file():
            return file
    candidates = " or ".join(names)
    raise BadImport(
        f"{at}: {launch.script} reads {candidates}, which is not here: put it beside {path.name}"
    )


FORM = SourceForm(
    "a script or notebook that starts a training: .sh .bat .ps1 .ipynb", matches, read
)

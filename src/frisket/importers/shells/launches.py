"""Which commands start a training, of which trainer, and what they are given."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from frisket.importers.shells.options import find_trainer
from frisket.importers.shells.words import ShellCommand, Word

PROCESSES = ("--num_processes", "--num-processes", "--nproc_per_node", "--num_gpus")
_STARTERS = re.compile(
    r"(python[\d.]*w?|py|accelerate(-launch)?|deepspeed|torchrun|uvx?|poetry|pipenv|conda|mamba"
    r"|micromamba|pixi|nohup|time|sudo|env|srun|nice|exec|numactl|timeout|stdbuf|docker)(\.exe)?"
)
_TRAINS = re.compile(r"\w*train\w*\.py")
_SIMPLETUNER = re.compile(r"(?:--)?(env|example)(?:=(.*))?")


@dataclass(frozen=True, slots=True)
class Launch:
    """A training that a command starts.

    `trainer` is a name on the shelf of layouts, `script` the file that is run. `words` follow the
    script, `before` stand before it. `files`: configurations it names, the only options there are
    of trainers that take nothing else.
    """

    command: ShellCommand
    trainer: str
    script: str
    before: tuple[Word, ...]
    words: tuple[Word, ...]
    files: tuple[Word, ...] = ()

    @property
    def label(self) -> str:
        """The launch in a line, for a list to choose from."""
        options = {word.text.partition("=")[0]: n for n, word in enumerate(self.words)}
        name = ""
        if (n := options.get("--output_name")) is not None:
            joined = self.words[n].text.partition("=")[2]
            following = self.words[n + 1].label if len(self.words) > n + 1 else ""
            name = f" ({joined or following})"
        files = " ".join(word.label for word in self.files)
        cell = f"cell {self.command.cell}, " if self.command.cell else ""
        return f"{cell}line {self.command.line}: {self.script} {files}{name}".rstrip()


def list_launches(commands: Sequence[ShellCommand]) -> list[Launch]:
    """The trainings that are started, in their order; anything else a script does is passed."""
    launches = (_launch(command) for command in commands)
    return [launch for launch in launches if launch is not None]


def find_strange_script(commands: Sequence[ShellCommand]) -> Word | None:
    """The first script that is started and trains by its name; for one that is not known here."""
    for command in commands:
        for number, word in enumerate(command.words):
            if _TRAINS.fullmatch(_name_script(word.text)) and _starts(command, number):
                return word
    return None


def find_stray_option(commands: Sequence[ShellCommand]) -> Word | None:
    """A line that begins with an option: the line before it does not go on, as was meant."""
    lines = (command.words[0] for command in commands)
    return next((word for word in lines if re.match(r"--[a-z]\w+", word.text)), None)


def _launch(command: ShellCommand) -> Launch | None:
    words = command.words
    for number, word in enumerate(words):
        script = _name_script(word.text)
        module = number and words[number - 1].text == "-m" and "." in word.text
        script = f"{word.text.rsplit('.', 1)[1]}.py".lower() if module else script
        before, after = words[:number], words[number + 1 :]
        if not _starts(command, number):
            continue
        if trainer := find_trainer(script):
            return Launch(command, trainer, script, before, after)
        if files := _find_files(script, after):
            return Launch(command, files[0], script, before, after, files[1])
        if simple := _find_simpletuner_folder(command, script, after):
            return Launch(command, "simpletuner", script, before, after, simple)
    return None


def _starts(command: ShellCommand, number: int) -> bool:
    """Whether a word is what a command starts, and not what it copies, edits or prints."""
    first = command.words[0]
    return number == 0 or bool(first.unknown) or bool(_STARTERS.fullmatch(_name_script(first.text)))


def _name_script(text: str) -> str:
    return re.split(r"[\\/]", text)[-1].lower()


def _find_files(script: str, words: Sequence[Word]) -> tuple[str, tuple[Word, ...]] | None:
    """Trainer and files of a script that takes all from a configuration."""
    if script == "run.py":  # ai-toolkit
        jobs = tuple(w for w in words if re.search(r"\.(ya?ml|jsonc?)$", w.text, re.IGNORECASE))
        return ("ai_toolkit", jobs) if jobs and not words[0].text.startswith("--config") else None
    if script in ("train.py", "train_remote.py"):
        for option, trainer, suffix in (
            ("--config-path", "onetrainer", ".json"),
            ("--config", "diffusion_pipe", ".toml"),
        ):
            file = _find_value(words, option)
            if file and file.text.lower().endswith(suffix):
                return trainer, (file,)
    return None


def _find_value(words: Sequence[Word], option: str) -> Word | None:
    """What an option of a few is given: `--config x` or `--config=x`."""
    for number, word in enumerate(words):
        name, equals, value = word.text.partition("=")
        if name == option and equals:
            return Word(value, word.line)
        if name == option and len(words) > number + 1:
            return words[number + 1]
    return None


def _find_simpletuner_folder(
    command: ShellCommand, script: str, words: Sequence[Word]
) -> tuple[Word, ...]:
    """The folder of an environment of SimpleTuner, as a word: `config/NAME`."""
    name = next((value for key, value in command.environment if key == "ENV"), "")
    is_program = script == "simpletuner" and bool(words) and words[0].text == "train"
    if not is_program and not (script == "train.sh" and name):
        return ()
    name = _read_environment_name(words, name)
    folder = "config" if name in ("", "default") else f"config/{name}"
    return (Word(folder, command.line),)


def _read_environment_name(words: Sequence[Word], name: str) -> str:
    """What `env=NAME` or `--example NAME` says; `name` where neither does."""
    for number, word in enumerate(words):
        if match := _SIMPLETUNER.fullmatch(word.text):
            following = words[number + 1].text if len(words) > number + 1 else ""
            name = match[2] if match[2] is not None else following
            name = f"examples/{name}" if match[1] == "example" else name
    return name

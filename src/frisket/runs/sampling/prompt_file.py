"""Prompt files: one prompt a line, with options in the notation of kohya's trainers."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from frisket.config.load import ConfigError


@dataclass(frozen=True, slots=True)
class PromptLine:
    """A prompt, and what its line says of the sample: names and values as `build_spec` takes them.

    `seed` is among them where the line names one.
    """

    prompt: str
    options: Mapping[str, Any] = field(default_factory=dict)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ValueError("a whole number from 1 on")
    return int(text)


def _seed(text: str) -> int:
    if not text.isdecimal() or int(text) >= 1 << 64:
        raise ValueError("a whole number from 0 to 2^64 - 1")
    return int(text)


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError("a number")
    return number


def _text(text: str) -> str:
    return text


OPTIONS: Mapping[str, tuple[str, Callable[[str], Any]]] = {
    "n": ("negative", _text),
    "w": ("width", _count),
    "h": ("height", _count),
    "f": ("frames", _count),
    "d": ("seed", _seed),
    "s": ("steps", _count),
    "l": ("guidance", _number),  # classifier-free guidance
    "g": ("guidance", _number),  # a distilled model's; a variant here has one or the other
    "i": ("images", Path),
    "ci": ("images", Path),
}
SIGN = re.compile(r"(?:^|\s)--(?=[A-Za-z])")
LEGEND = (
    "--n negative prompt, --w width, --h height, --f frames, --d seed, --s steps, --l or --g"
    " guidance, --i picture"
)


def read_prompts(path: Path) -> list[PromptLine]:
    """Prompts of a text file, one a line; blank lines and lines that begin with `#` are left out.

    A line may end with options as kohya's sd-scripts and musubi-tuner write them: `--n` negative
    prompt, `--w` `--h` pixels, `--f` frames, `--d` seed, `--s` steps, `--l` or `--g` guidance, and
    `--i` (or `--ci`) a picture, which may come several times; its path is taken from where the
    file lies. Raises ConfigError naming the file, and the line, where something is wrong: they
    would pass over it.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 (byte {error.start}); save it as UTF-8") from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    lines = [
        _line(line.strip(), path, number)
        for number, line in enumerate(text.splitlines(), 1)
        if line.strip() and not line.strip().startswith("#")
    ]
    if not lines:
        raise ConfigError(f"{path} holds no prompt; write one a line")
    return lines


def _line(line: str, path: Path, number: int) -> PromptLine:
    prompt, *written = SIGN.split(line)
    options: dict[str, Any] = {}
    for option in written:
        letter, _, value = option.strip().partition(" ")
        name, value = letter.lower(), value.strip()
        where = f"{path}, line {number}: --{letter}"
        if name not in OPTIONS:
            raise ConfigError(f"{where} is no option of a prompt; there are {LEGEND}")
        key, read = OPTIONS[name]
        try:
            parsed = read(value)
        except ValueError as error:
            raise ConfigError(f"{where} takes {error}, not {value!r}") from error
        if key == "images":
            parsed = (*options.get(key, ()), path.parent / parsed.expanduser())
        elif options.get(key, parsed) != parsed:
            raise ConfigError(f"{where} says {value}, but {key} is {options[key]} on that line")
        options[key] = parsed
    return PromptLine(prompt.strip(), options)

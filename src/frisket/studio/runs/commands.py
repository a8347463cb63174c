"""Commands that the pages of runs start: what is typed, and on which device it runs."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict


class PageForm(BaseModel):
    """What the page sends: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid")


def spell_command(argv: Sequence[str]) -> str:
    """A command as it is typed in a terminal."""
    return shlex.join(["frisket", *argv])


def choose_device(settings: Mapping[str, Any]) -> str:
    """The device of the queue that a run's settings mean: `cpu`, or the card they name.

    `auto` is the first card where there is one: jobs of one card wait for each other.
    """
    model = settings.get("model")
    device = str(model.get("device", "auto")) if isinstance(model, dict) else "auto"
    if device == "auto":
        return "cuda:0" if has_card() else "cpu"
    return "cuda:0" if device == "cuda" else device


def has_card() -> bool:
    """Whether there is an NVIDIA card: the driver's files say so without torch."""
    return Path("/dev/nvidia0").exists() or Path("/dev/dxg").exists()


def list_options(name: str, values: Sequence[str]) -> list[str]:
    """A repeated option, each value bound to its name: one that begins with `-` is no option."""
    return [f"{name}={value}" for value in values]


def check_text(name: str, text: str) -> str:
    """The text of one line; ValueError where it has control characters, such as a line break."""
    line = text.strip()
    if any(ord(letter) < 32 or letter == "\x7f" for letter in line):
        raise ValueError(f"{name}: {line[:60]!r} has a line break or control character; remove it")
    try:
        line.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{name}: holds half a letter (a lone surrogate); type it anew") from error
    return line

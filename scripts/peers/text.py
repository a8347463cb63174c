# ruff: noqa: D102
"""The text of another trainer at one commit, run in pieces; what all of them are given."""

import __future__

import ast
import logging
import math
import subprocess
import textwrap
from collections.abc import Callable
from types import SimpleNamespace as Stub
from typing import Any

import torch
from tests.losses.scenes import Scene
from torch import Tensor
from torch.nn import functional

FUTURE = __future__.annotations.compiler_flag
IMAGES = (
    ("soft",), ("hard", "soft"), ("corner", "empty"), ("full", "soft"), ("line",),
    ("soft", "none"), ("empty", "empty"), ("full", "full"),
)  # fmt: skip
VIDEOS = (("soft", "hard"), ("corner", "empty"), ("full",))


class Commit:
    """The text of a repository at one commit, and functions out of it."""

    def __init__(self, checkout: str) -> None:
        self.folder, _, name = checkout.partition("@")
        self.name = self._git("rev-parse", name or "HEAD").strip()
        self.files: list[str] = []

    def _git(self, *words: str) -> str:
        command = ["git", "-C", self.folder, *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def text(self, file: str) -> str:
        if file not in self.files:
            self.files.append(file)
        return self._git("show", f"{self.name}:{file}")

    def files_in(self, folder: str, suffix: str) -> list[str]:
        listed = self._git("ls-tree", "-r", "--name-only", self.name, f"{folder}/").splitlines()
        return [name for name in listed if name.endswith(suffix)]

    def has(self, file: str) -> bool:
        return bool(self._git("ls-tree", self.name, "--", file).strip())

    def module(self, file: str, **names: Any) -> Stub:
        run(self.text(file), names)
        return Stub(**names)

    def function(self, file: str, name: str, **names: Any) -> Callable[..., Any]:
        text = self.text(file)
        nodes = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef)]
        node = next(node for node in nodes if node.name == name)
        lines = text.splitlines()[node.lineno - 1 : node.end_lineno]
        names |= {"torch": torch, "F": functional, "math": math, "logger": logging.getLogger()}
        run(textwrap.dedent("\n".join(lines)), names)
        return names[name]

    def part(self, file: str, start: str, end: str, *, last: bool = False) -> str:
        """The lines from the first that begins with `start` to the one with `end` (or before)."""
        lines = self.text(file).splitlines()
        first = next(n for n, line in enumerate(lines) if line.strip().startswith(start))
        rest = range(first + 1, len(lines))
        stop = next(n for n in rest if lines[n].strip().startswith(end))
        return textwrap.dedent("\n".join(lines[first : stop + last]))


def run(text: str, names: dict[str, Any]) -> None:
    exec(compile(text, "peer", "exec", flags=FUTURE), names)


def stacked(scene: Scene, missing: float = 1.0) -> Tensor:
    """Masks b H W; `missing` where a clip has none."""
    return torch.stack(
        [torch.full(scene.size, missing) if mask is None else mask for mask in scene.masks]
    )


def unframed(latents: Tensor) -> Tensor:
    return latents.squeeze(2) if latents.shape[2] == 1 else latents


def spread(values: Tensor, like: Tensor) -> Tensor:
    return values.view(-1, *[1] * (like.ndim - 1))

"""Checkpoints that a kill at any moment cannot spoil."""

import json
import logging
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

log = logging.getLogger(__name__)
STATE = "state.pt"
MANIFEST = "manifest.json"


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be written, read, or does not belong to this run."""


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """The folder `root` of checkpoints `step-00000500`, the newest `keep` of them.

    A checkpoint is written under a temporary name and renamed when it is whole, so that a folder
    named `step-*` is always complete; older ones go only after that.
    """

    root: Path
    keep: int = 3

    def all(self) -> list[Path]:
        """Complete checkpoints, oldest first."""
        return sorted(path for path in self.root.glob("step-*") if (path / MANIFEST).is_file())

    def save(
        self,
        step: int,
        state: dict[str, Any],
        manifest: dict[str, Any],
        write_adapter: Callable[[Path], None],
    ) -> Path:
        """Write `state` (tensors and plain values), `manifest` (JSON) and the adapter.

        Raises CheckpointError if the disk refuses; what was there before is then untouched.
        """
        final = self.root / f"step-{step:08d}"
        partial = self.root / f".partial-{step:08d}-{os.getpid()}"
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            write_adapter(partial / "lora.safetensors")
            torch.save(state, partial / STATE)
            text = json.dumps({"step": step, **manifest}, indent=1)
            (partial / MANIFEST).write_text(text, encoding="utf-8")
            if final.exists():
                shutil.rmtree(final)
            partial.replace(final)
        except (OSError, RuntimeError) as error:  # torch.save reports a full disk as RuntimeError
            shutil.rmtree(partial, ignore_errors=True)
            raise CheckpointError(
                f"the checkpoint of step {step} could not be written to {self.root}: {error}."
                f" Earlier checkpoints are untouched ({len(self.all())} there); free some space"
                " or change run.output, then start again: training goes on from the newest."
            ) from error
        self._rotate()
        return final

    def _rotate(self) -> None:
        for old in self.all()[: -self.keep]:
            shutil.rmtree(old)
        for stale in self.root.glob(".partial-*"):
            shutil.rmtree(stale, ignore_errors=True)

    def set_aside(self) -> None:
        """Make room for a run from the start: rename the folder to the first free `name.N`.

        Left where they are, an older run's higher steps would outlive the new ones.
        """
        if self.root.is_dir():
            number = 1
            while (aside := self.root.with_name(f"{self.root.name}.{number}")).exists():
                number += 1
            self.root.replace(aside)

    def newest(self) -> Path | None:
        """The newest complete checkpoint, if any."""
        found = self.all()
        return found[-1] if found else None


def read(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """State and manifest of one checkpoint; CheckpointError names a damaged file."""
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        state: dict[str, Any] = torch.load(folder / STATE, weights_only=True, map_location="cpu")
    except Exception as error:
        raise CheckpointError(
            f"the checkpoint {folder} cannot be read ({error}). Delete that folder to go on from"
            " the one before it."
        ) from error
    return state, manifest


def same_run(stored: dict[str, Any], now: dict[str, Any], folder: Path) -> None:
    """Refuse to resume a run whose fixed settings changed; names each one with both values."""
    changed = [key for key in now if stored.get(key) != now[key]]
    if changed:
        lines = "; ".join(f"{key}: {stored.get(key)!r} then, {now[key]!r} now" for key in changed)
        raise CheckpointError(
            f"{folder} belongs to another run ({lines}). Set these back, choose another run.output,"
            " or start afresh with --set run.resume=false."
        )

"""Checkpoints that a kill at any moment cannot spoil."""

import errno
import json
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

STATE = "state.pt"
WEIGHTS = "weights.safetensors"  # what is trained, where it is more than a LoRA
MANIFEST = "manifest.json"
LITTLE = 1 << 20  # bytes free that mean a full disk, where the error does not say


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be written, read, or does not belong to this run."""


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """The folder `root` of checkpoints `step-00000500`, the newest `keep` of them.

    A checkpoint is written under a temporary name and renamed when it is whole, so that a folder
    named `step-*` with a manifest can always be gone on from; older ones go only after that.
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
        *,
        weights: Mapping[str, Tensor] | None = None,
    ) -> Path:
        """Write `state` (tensors and plain values) and `manifest` (JSON); returns the folder.

        `weights` are what is trained, by name, where these are to lie in a safetensors file of
        their own and not in `state`: `read` puts them back under "adapter".

        A complete checkpoint of this very step is kept as it is: the state of a step is a function
        of the run. Nothing but the state is written here: what is exported from it (the LoRA file)
        goes into the folder afterwards, so that no export can cost the state. Raises
        CheckpointError if the disk refuses; what was there before is then untouched.
        """
        final = self.root / f"step-{step:08d}"
        if (final / MANIFEST).is_file():
            return final
        partial = self.root / f".partial-{step:08d}-{os.getpid()}"
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            if weights is not None:
                manifest = {"weights": WEIGHTS, **manifest}
                contiguous = {name: value.contiguous() for name, value in weights.items()}
                save_file(contiguous, partial / WEIGHTS, {"format": "pt"})
            torch.save(state, partial / STATE)
            text = json.dumps({"step": step, **manifest}, indent=1)
            (partial / MANIFEST).write_text(text, encoding="utf-8")
            if final.exists():  # no manifest: nothing that could be gone on from
                shutil.rmtree(final)
            partial.replace(final)
        # torch.save reports a full disk as RuntimeError, safetensors in a class of its own.
        except (OSError, RuntimeError, SafetensorError) as error:
            shutil.rmtree(partial, ignore_errors=True)
            raise CheckpointError(
                f"the checkpoint of step {step} could not be written to {self.root}:"
                f" {_why(error, self.root)}. Earlier checkpoints are untouched ({len(self.all())}"
                " there); free some space or change run.output, then start again: training goes on"
                " from the newest."
            ) from error
        self._rotate()
        return final

    def _rotate(self) -> None:
        for old in self.all()[: -self.keep]:
            shutil.rmtree(old, ignore_errors=True)
        # Whoever saves here has the folder's lock: any other draft is a dead process's.
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
        folders = self.all()
        return folders[-1] if folders else None


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of one checkpoint alone; CheckpointError where it is damaged."""
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        int(manifest["step"])
        return manifest
    except Exception as error:
        raise _unreadable(folder, error) from error


def read(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """State and manifest of one checkpoint; CheckpointError names a damaged file."""
    manifest = read_manifest(folder)
    try:
        state: dict[str, Any] = torch.load(folder / STATE, weights_only=True, map_location="cpu")
        if manifest.get("weights"):
            state["adapter"] = load_file(folder / WEIGHTS)
    except Exception as error:
        raise _unreadable(folder, error) from error
    return state, manifest


def _unreadable(folder: Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"the checkpoint {folder} cannot be read ({error}). Delete that folder to go on from the"
        " one before it."
    )


def _why(error: BaseException, folder: Path) -> str:
    """The reason in words: torch says of a full disk what its file format noticed."""
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    with suppress(OSError):
        full = full or shutil.disk_usage(folder).free < LITTLE
    return "the disk is full" if full else str(error)

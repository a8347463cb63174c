"""`controlnet/` of a run that trained one: a folder that control.source and diffusers take."""

import json
from pathlib import Path

from torch import nn

from frisket.adapters.control.net import find_net
from frisket.disk.folders import replace_folder
from frisket.families.whole_model import save_weights
from frisket.runs.sampling.whole_models import RECORD

CONTROLNET = "controlnet"  # the folder, in that of the run and in its checkpoints


def save_net(denoiser: nn.Module, folder: Path, metadata: dict[str, str]) -> Path:
    """Write the net that was trained on a denoiser into a run's folder; returns its own.

    diffusers' layout, in float32, and what a LoRA's metadata says beside it. The whole folder
    takes the place of an earlier one at once. Raises CannotWrite.
    """
    part = find_net(denoiser)
    assert part is not None
    path = folder / CONTROLNET
    with replace_folder(path) as draft:
        save_weights(part.net, draft)
        text = json.dumps(metadata, indent=1, sort_keys=True, ensure_ascii=False)
        (draft / RECORD).write_text(text + "\n", encoding="utf-8", errors="backslashreplace")
    return path


def find_trained_net(output: Path) -> Path | None:
    """The ControlNet that a run has left in its folder; None before its end."""
    path = output / CONTROLNET
    return path if (path / "config.json").is_file() else None

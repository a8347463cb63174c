"""What a run left at its end: its LoRA, or the model where all weights were trained."""

from pathlib import Path

RECORD = "model/frisket.json"  # as `runs.sampling.whole_models`


def list_results(folder: Path) -> list[Path]:
    """The LoRA of a run folder (one an expert), or its model's folder; [] before there is one.

    Of a folder that was used for both kinds, what was written last.
    """
    loras = sorted(folder.glob("lora*.safetensors")) if folder.is_dir() else []
    model = find_model(folder)
    if model is None:
        return loras
    record = folder / RECORD
    is_older = any(lora.stat().st_mtime > record.stat().st_mtime for lora in loras)
    return loras if is_older else [model]


def find_model(folder: Path) -> Path | None:
    """The model of a run folder whose weights were all trained; None before there is one."""
    record = folder / RECORD
    return record.parent if record.is_file() else None

"""What a run left at its end: its LoRA, or the model where all weights were trained."""

from pathlib import Path

RECORD = "model/frisket.json"  # as `runs.sampling.whole_models`


def list_results(folder: Path) -> list[Path]:
    """The LoRA of a run folder (one an expert), else its model's folder; [] before there is one."""
    loras = sorted(folder.glob("lora*.safetensors")) if folder.is_dir() else []
    model = find_model(folder)
    return loras or ([] if model is None else [model])


def find_model(folder: Path) -> Path | None:
    """The model of a run folder whose weights were all trained; None before there is one."""
    record = folder / RECORD
    return record.parent if record.is_file() else None

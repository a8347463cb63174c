"""What a run left at its end: its LoRA, or the model where all weights were trained."""

from pathlib import Path

RECORD = "model/frisket.json"  # as `runs.sampling.whole_models`


def list_results(folder: Path) -> list[Path]:
    """The LoRA of a run folder (one an expert), else its model's folder; [] before there is one."""
    loras = sorted(folder.glob("lora*.safetensors")) if folder.is_dir() else []
    record = folder / RECORD
    return loras or ([record.parent] if record.is_file() else [])

"""What a model takes where a call of `generate` says nothing, and what it can make at all."""

from pathlib import Path
from typing import Any

from frisket.config.load import load
from frisket.families.base import FAMILIES
from frisket.recipes.serve.session import Answer, Session


def read_defaults(_: Session, args: dict[str, Any]) -> Answer:
    """Size in pixels, frames, steps and guidance of the model in `config`, under its [preview]."""
    config = load(Path(args["config"]))
    family = FAMILIES.load(config.model.family)
    name = config.model.variant or family.default
    card = family.variants[name]
    preview = config.preview
    return Answer(
        {
            "family": family.name,
            "variant": name,
            "width": preview.width or card.width,
            "height": preview.height or card.height,
            "frames": preview.frames or card.frames,
            "steps": preview.steps or card.steps,
            "guidance": card.guidance if preview.guidance is None else preview.guidance,
            "negative": preview.negative,
            "prompts": list(preview.prompts),
            "step": card.grid.step,
            "video": card.video,
            "sees": card.sees,
            "fuses": bool(family.suggestions.fuse_layers),
        }
    )


OPS = {"sampling.defaults": read_defaults}

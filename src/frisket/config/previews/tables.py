"""The `[preview]` table and the one inside it."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, model_validator

from frisket.config.command_options import option
from frisket.config.data import Count, Section


class PreviewIdentity(Section):
    """Whether previews show the right faces: a row for each person in metrics.jsonl."""

    faces: dict[str, Path] = Field(default_factory=dict)
    """A folder of pictures of each person, or one picture, by name: `faces.ada = "faces/ada"`."""
    embedder: str = ""
    """What people are told apart by: sface (free for any use), onnx (InsightFace's packs,
    non-commercial), iresnet, or tiny (drawn people). Empty looks for nobody."""
    source: Path | None = None
    """The embedder's file or folder."""
    detector: str = ""
    """What faces are found by: yunet, scrfd or drawn; empty takes the one that goes with the
    embedder."""
    detector_source: Path | None = None
    """The detector's file or folder; empty takes the embedder's."""

    @model_validator(mode="after")
    def _both_or_none(self) -> "PreviewIdentity":
        if bool(self.faces) != bool(self.embedder):
            missing = "embedder" if self.faces else "faces"
            raise ValueError(
                f"preview.identity: `{missing}` is not given, and likeness needs both: pictures of"
                ' each person (`faces.ada = "faces/ada"`) and an embedder (`embedder = "sface"`)'
            )
        return self


class Preview(Section):
    """Sample grids during training."""

    every: Annotated[int, Field(ge=0)] = 0
    """Steps between previews; 0 turns these off."""
    every_epochs: Annotated[int, Field(ge=0)] = 0
    """Epochs between previews, besides; 0 turns these off."""
    prompts: Annotated[tuple[str, ...], option("--prompt", "-p")] = ()
    """What is sampled."""
    seeds: Annotated[tuple[int, ...], option("--seed")] = (0,)
    """One column a seed."""
    negative: str = ""
    """Negative prompt."""
    images: Annotated[tuple[Path, ...], option("--image")] = ()
    """First frame (image to video) or reference pictures, for models that look at some."""
    steps: Count | None = None
    """Sampling steps; empty takes the variant's own."""
    guidance: float | None = None
    """Guidance scale; empty takes the variant's own."""
    width: Count | None = None
    """Pixels; empty takes the variant's own."""
    height: Count | None = None
    """Pixels; empty takes the variant's own."""
    frames: Count | None = None
    """Frames; empty takes the variant's own."""
    identity: PreviewIdentity = PreviewIdentity()
    """Whose faces are looked for on every preview; the table below."""

    def sampling(self) -> dict[str, Any]:
        """How a picture is sampled: all but how often, and of what."""
        return self.model_dump(exclude={"every", "every_epochs", "prompts", "seeds", "identity"})

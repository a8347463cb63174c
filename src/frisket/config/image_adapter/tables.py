"""`[image_adapter]`: a second attention to a picture, trained in place of a LoRA."""

from pathlib import Path
from typing import Literal

from pydantic import model_validator

from frisket.config.data import Count, Fraction, Section


class ImageAdapterTraining(Section):
    """What `model.train = "image_adapter"` trains: a projection of a picture, and its attention."""

    kind: Literal["base", "plus", "full", "faceid"] = "base"
    """What the picture's tokens are made of. base: CLIP's embedding of the whole picture; plus: its
    patches, read by a resampler; full: each of its patches; faceid: the embedding of the face in
    it."""
    source: Path | None = None
    """Image adapter to go on from: a public file of this kind, or one of an earlier run."""
    encoder: Path | None = None
    """Folder of the image encoder (CLIP with projection, as transformers saves it). Sampling needs
    the same one."""
    embedder: str = ""
    """faceid: the network that embeds faces (`frisket methods` lists them). Sampling needs the same
    one."""
    embedder_source: Path | None = None
    """Its file or folder."""
    detector: str = ""
    """faceid: what finds faces, and their eyes, nose and mouth."""
    detector_source: Path | None = None
    """Its file or folder."""
    tokens: Count | None = None
    """Tokens made of a picture; empty is 4 (base, faceid) or 16 (plus)."""
    width: Count | None = None
    """Channels of a token, for transformers; empty is 1024 or the layers' own, whichever is less.
    UNets read tokens as wide as their text."""
    references: Literal["self", "other"] = "self"
    """Which picture a clip is shown: its own, or one of another clip of the same folder, drawn anew
    each time (so that a pose or a light cannot be copied)."""
    cut: bool = True
    """Show the region alone, on grey and filling the picture, so that nothing else is copied; false
    shows the whole frame. A clip without a mask is always shown whole."""
    region: str = ""
    """Region that is cut out (faceid: whose face is looked at, cut = false takes the largest one of
    the frame); empty is the first of [regions] that has a weight."""
    dropout: Fraction = 0.1
    """Share of draws that see no picture: what guidance compares with."""
    confine: bool = False
    """Let the picture act under the masks alone while training (regions that have a weight)."""

    @model_validator(mode="after")
    def _check_sizes(self) -> "ImageAdapterTraining":
        if self.kind == "full" and self.tokens is not None:
            raise ValueError(
                '`image_adapter.tokens` is not for kind = "full", which makes one of each patch'
            )
        for name in ("tokens", "width"):
            if self.source is not None and getattr(self, name) is not None:
                raise ValueError(
                    f"`image_adapter.{name}` is what the file {self.source.name} has: leave it out"
                )
        if self.region and not self.cut:
            raise ValueError("`image_adapter.region` is what is cut out: set cut = true")
        return self

    @model_validator(mode="after")
    def _check_networks(self) -> "ImageAdapterTraining":
        if self.kind == "faceid" and self.encoder is not None:
            raise ValueError(
                '`image_adapter.encoder` is not for kind = "faceid", which reads faces by'
                " image_adapter.embedder: leave it out"
            )
        for name in ("embedder", "embedder_source", "detector", "detector_source"):
            if self.kind != "faceid" and getattr(self, name):
                raise ValueError(
                    f'`image_adapter.{name}` is for kind = "faceid" only, this is {self.kind!r}'
                )
        return self

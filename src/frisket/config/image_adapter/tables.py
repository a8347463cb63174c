"""`[image_adapter]`: a second attention to a picture, trained in place of a LoRA."""

from pathlib import Path
from typing import Literal

from pydantic import model_validator

from frisket.config.data import Count, Fraction, Section

FACE_KINDS = ("faceid", "instantid", "uniid-text", "uniid-adapter")


class ImageAdapterTraining(Section):
    """What `model.train = "image_adapter"` trains: a projection of a picture, and its attention."""

    kind: Literal["base", "plus", "full", "faceid", "instantid", "uniid-text", "uniid-adapter"] = (
        "base"
    )
    """What the picture's tokens are made of. base: CLIP's embedding of the whole picture; plus: its
    patches, read by a resampler; full: each of its patches; faceid: the embedding of the face in
    it; instantid: that as it is, and its key points (UNets); uniid-text, uniid-adapter: the stages
    of a recognition network, as words of the prompt or beside it (UNets)."""
    source: Path | None = None
    """Image adapter to go on from: a public file of this kind, or one of an earlier run. InstantID
    and a branch of UniID are folders."""
    encoder: Path | None = None
    """Folder of the image encoder (CLIP with projection, as transformers saves it). Sampling needs
    the same one."""
    embedder: str = ""
    """Of faces: the network that embeds them (`frisket methods` lists them; UniID reads the stages
    of an iresnet). Sampling needs the same one."""
    embedder_source: Path | None = None
    """Its file or folder."""
    detector: str = ""
    """Of faces: what finds them, and their eyes, nose and mouth; instantid and uniid take what lies
    beside a clip (name.keypoints.json) first."""
    detector_source: Path | None = None
    """Its file or folder."""
    tokens: Count | None = None
    """Tokens made of a picture; empty is 4 (base, faceid), 16 (plus, instantid), 3 (uniid-text) or
    25 (uniid-adapter)."""
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
    """Region that is cut out (of faces: where the face is looked for, cut = false takes the largest
    one of the frame); empty is the first of [regions] that has a weight."""
    strokes: Literal["fixed", "scaled"] = "fixed"
    """instantid: key points are drawn as the authors' are, for 1024 pixels, or scaled with the
    picture. Sampling needs the same (identity.options.strokes)."""
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
        if self.kind in FACE_KINDS and self.encoder is not None:
            raise ValueError(
                f'`image_adapter.encoder` is not for kind = "{self.kind}", which reads faces by'
                " image_adapter.embedder: leave it out"
            )
        for name in ("embedder", "embedder_source", "detector", "detector_source"):
            if self.kind not in FACE_KINDS and getattr(self, name):
                raise ValueError(
                    f"`image_adapter.{name}` is for kinds that read faces"
                    f" ({', '.join(FACE_KINDS)}), this is {self.kind!r}"
                )
        return self

    @model_validator(mode="after")
    def _check_stages(self) -> "ImageAdapterTraining":
        if self.kind != "instantid" and self.strokes != "fixed":
            raise ValueError(
                f'`image_adapter.strokes` is for kind = "instantid" only, this is {self.kind!r}'
            )
        if self.kind == "uniid-text" and self.confine:
            raise ValueError(
                '`image_adapter.confine` is not for kind = "uniid-text": its words are in the'
                " prompt, which all of the picture reads; set it to false"
            )
        return self

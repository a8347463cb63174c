"""`[[identity]]`: methods that keep a face, person or thing while sampling."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from frisket.config.data import Section


class IdentityTable(Section):
    """A method of `frisket methods` while sampling: one person or thing (docs/identity)."""

    method: str
    """Which one: ip_adapter, instantid, ... (`frisket methods` lists them)."""
    source: Path
    """File or folder with the method's weights (--method-source)."""
    faces: Annotated[tuple[Path, ...], Field(min_length=1)]
    """Pictures of one person or thing; of several the method takes the mean."""
    like: Path | None = None
    """A picture of the person alone: says who is meant where a face picture shows several; empty
    takes the largest face."""
    pose: Path | None = None
    """The picture whose face shows where eyes, nose and mouth shall be; empty: the first of
    `faces`."""
    encoder: Path | None = None
    """Folder of the image encoder, for methods that have one."""
    embedder: str = ""
    """The network that embeds faces (`frisket methods` lists them). One whose weights are for
    non-commercial use is taken only where it is named; empty takes one that is free."""
    embedder_source: Path | None = None
    """Its file or folder."""
    detector: str = ""
    """What finds faces (`frisket methods` lists them); empty: what goes with the embedder."""
    detector_source: Path | None = None
    """Its file or folder; empty: beside the embedder's."""
    scale: Annotated[float, Field(ge=0)] = 1.0
    """How strongly it acts; 0 is the base model."""
    mask: Path | None = None
    """Where it acts (white), a picture or as many frames as are sampled; empty is everywhere."""
    strict: bool = False
    """Blend two predictions: outside `mask` each is the one without the method. Twice the work."""
    options: dict[str, Any] = Field(default_factory=dict)
    """The method's own."""

"""What a trainer is handed to compare structure: the frozen VAE's decoder and an extractor."""

from frisket.config.tree import Config
from frisket.families.base import Family, Source
from frisket.losses.decoding import Decode
from frisket.runs.faces.watching import load_decoder
from frisket.runs.structure.asking import find_structure_request
from frisket.runs.structure.extractors import open_extractor
from frisket.training.decoded.structure import StructureWatch


def watch_structure(
    config: Config, family: Family, source: Source, decode: Decode | None = None
) -> StructureWatch | None:
    """Decoder and extractor of a run, on its device; None where no term compares structure.

    `decode` is a decoder that is loaded already. ConfigError where the extractor's model is not
    there.
    """
    request = find_structure_request(config)
    if request is None:
        return None
    return StructureWatch(
        frames=request.frames,
        grid=family.variants[source.variant].grid,
        decode=decode or load_decoder(config, family, source),
        extract=open_extractor(request, source.device),
    )

"""What comparing structure takes beside decoding, foretold from shapes."""

from pathlib import Path

import torch

from frisket.config.tree import Config
from frisket.losses.structure import EXTRACTORS
from frisket.runs.structure.asking import find_structure_request
from frisket.training.memory.dry_run import META, Rehearsal

MIB = 2**20


def measure_comparing(config: Config, size: tuple[int, int, int]) -> float:
    """MiB of the maps of a batch of clips of `size` (F H W) and of the model that extracts them.

    Every sample below the gate keeps its decoded frames and what the extractor makes of them until
    the backward pass. Of a model its weights count; of its activations nothing is known here. 0
    where no term compares structure.
    """
    request = find_structure_request(config)
    if request is None:
        return 0.0
    weights = 0.0
    if request.source:
        folder = Path(request.source).expanduser()
        weights = float(sum(file.stat().st_size for file in folder.glob("*.safetensors")))
    extract = EXTRACTORS.get(request.extractor, EXTRACTORS["luma"])
    frames = config.run.batch * min(request.frames, size[0])
    with Rehearsal() as live:
        pictures = torch.empty((frames, 3, 1, *size[1:]), device=META, requires_grad=True)
        colours = pictures.div(2).add(0.5).clamp(0, 1)
        target_map = torch.empty_like(extract(colours.detach()))
        live.backward((extract(colours) - target_map).square().mean())
    return (live.peak + weights) / MIB

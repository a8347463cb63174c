"""What a step knows of the picture that its prediction stands for, by the names of `Step`."""

from collections.abc import Iterable
from typing import Any

from frisket.data.sample import Batch
from frisket.objectives.base import Objective
from frisket.objectives.estimates import estimate_clean
from frisket.shapes import Latents, PerSample
from frisket.training.decoded.faces import FaceWatch
from frisket.training.decoded.structure import StructureWatch


def describe_pictures(
    watches: Iterable[FaceWatch | StructureWatch | None],
    objective: Objective,
    batch: Batch,
    noisy: Latents,
    prediction: Latents,
    t: PerSample,
) -> dict[str, Any]:
    """The clean latents, the estimate of them, the decoder, and what each watch adds; {} of none.

    ValueError where a noise level leaves nothing to tell (`estimate_clean`).
    """
    present = [watch for watch in watches if watch is not None]
    if not present:
        return {}
    described: dict[str, Any] = {
        "clean": batch.latents,
        "estimate": estimate_clean(objective, noisy, prediction, t),
        "decode": present[0].decode,
    }
    for watch in present:
        described |= watch.describe(objective, batch, t)
    return described

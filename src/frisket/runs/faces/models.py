"""The face models of a run, loaded; what they may be used under is said before the first use."""

import logging

from frisket.faces.base import EMBEDDERS, Embedder, EmbedderUnusable
from frisket.faces.detect import DETECTORS, FaceDetector
from frisket.licence import Licence
from frisket.losses.faces import FaceRequest

log = logging.getLogger(__name__)
_warned_names: set[str] = set()  # whose licence was said in this process


def load_embedder(request: FaceRequest, device: str) -> Embedder:
    """The embedder that is asked for, frozen; EmbedderUnusable where no gradient passes it."""
    plugin = EMBEDDERS.load(request.embedder)
    _say_licence(request.embedder, plugin.licence)
    embedder = plugin.load(request.source, device)
    if not embedder.trainable_through:
        raise EmbedderUnusable(
            f"losses.identity: the embedder {request.embedder} lets no gradient through (it"
            " measures, and cannot teach); take another, e.g. iresnet"
        )
    return embedder


def load_detector(request: FaceRequest, device: str) -> FaceDetector:
    """The detector that is asked for."""
    plugin = DETECTORS.load(request.detector)
    _say_licence(request.detector, plugin.licence)
    return plugin.load(request.detector_source, device)


def _say_licence(name: str, licence: Licence) -> None:
    if licence.warning and name not in _warned_names:
        _warned_names.add(name)
        log.warning("losses.identity uses %s: %s", name, licence.warning)

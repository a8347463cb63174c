"""The one place where networks that read faces are loaded; their licences are said before."""

from frisket.faces.base import EMBEDDERS, Embedder
from frisket.faces.detect import DETECTORS, FaceDetector
from frisket.licence import say_licence


def open_detector(name: str, source: str = "", device: str = "cpu") -> FaceDetector:
    """The detector of that name, on a device; an empty source is its own weights.

    Raises UnknownPlugin, FaceModelNotFound and FaceModelUnusable.
    """
    plugin = DETECTORS.load(name)
    say_licence(name, plugin.licence)
    return plugin.load(source, device)


def open_embedder(name: str, source: str = "", device: str = "cpu") -> Embedder:
    """The embedder of that name, on a device; an empty source is its own weights.

    Raises UnknownPlugin, EmbedderNotFound and EmbedderUnusable.
    """
    plugin = EMBEDDERS.load(name)
    say_licence(name, plugin.licence)
    return plugin.load(source, device)

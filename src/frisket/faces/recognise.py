"""A detector and an embedder together: from a picture to faces that can be compared."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from frisket.faces.base import (
    EMBEDDERS,
    Embedder,
    EmbedderPlugin,
    FaceModelNotFound,
    FaceModelUnusable,
)
from frisket.faces.detect import (
    DETECTORS,
    DetectedFace,
    DetectorPlugin,
    FaceDetector,
    FaceFrame,
    describe_faces,
    find_faces,
)
from frisket.faces.opening import open_detector, open_embedder

_Plugin = EmbedderPlugin | DetectorPlugin


@dataclass(frozen=True, slots=True)
class FaceModels:
    """Which models people are told apart by; names are those of the two shelves.

    An empty `detector` is the one that goes with the embedder; an empty source is the model's own
    weights, or for a detector the embedder's source where that holds its file.
    """

    embedder: str
    source: str = ""
    detector: str = ""
    detector_source: str = ""


@dataclass(frozen=True, slots=True)
class FaceRecogniser:
    """Faces of a picture with what they are compared by."""

    detector: FaceDetector
    embedder: Embedder

    def recognise(self, frame: FaceFrame) -> list[DetectedFace]:
        """All faces of an RGB picture, the largest first, described where they have key points."""
        return describe_faces(self.embedder, frame, find_faces(self.detector, frame))

    def embed_largest(
        self, frame: FaceFrame, inside: Float[Tensor, "1 H W"] | None = None
    ) -> Float[Tensor, " d"] | None:
        """Raw embedding of the largest face, whose middle lies inside where that is given; or None.

        `inside` is a plane in [0, 1] of the same picture: above 0 is inside.
        """
        for face in find_faces(self.detector, frame):
            column, row = (int(place) for place in face.box.centre)
            if inside is not None and float(inside[0, row, column]) <= 0:
                continue
            (described,) = describe_faces(self.embedder, frame, [face])
            if described.description is not None:
                return described.description.raw
        return None


def open_recogniser(models: FaceModels, device: str = "cpu") -> FaceRecogniser:
    """Load both models, their licences said before.

    UnknownPlugin, FaceModelNotFound or FaceModelUnusable say what is wrong.
    """
    complete = complete_models(models)
    return FaceRecogniser(
        open_detector(complete.detector, complete.detector_source, device),
        open_embedder(complete.embedder, complete.source, device),
    )


def complete_models(models: FaceModels) -> FaceModels:
    """The same with its detector and that one's source filled in; loads nothing.

    FaceModelUnusable for an embedder that no detector is known to go with.
    """
    name = models.detector or EMBEDDERS.load(models.embedder).detector
    if not name:
        raise FaceModelUnusable(
            f"the embedder {models.embedder} goes with no detector by itself; name one:"
            f" {', '.join(DETECTORS.names())}"
        )
    source = models.detector_source
    if not source and DETECTORS.load(name).files:
        place = Path(models.source).expanduser()
        source = str(place.parent if place.is_file() else place) if models.source else ""
    return replace(models, detector=name, detector_source=source)


def identify_models(folder: Path) -> FaceModels:
    """The embedder and detector whose files a folder holds; those free for any use come first.

    FaceModelNotFound names what is looked for, and where it is published.
    """
    embedders = {name: EMBEDDERS.load(name) for name in EMBEDDERS.names()}
    detectors = {name: DETECTORS.load(name) for name in DETECTORS.names()}
    embedder = _find_plugin(embedders, folder)
    own_detector = embedders[embedder].detector
    has_own = own_detector in detectors and _holds(detectors[own_detector], folder)
    detector = own_detector if has_own else _find_plugin(detectors, folder)
    return FaceModels(embedder, str(folder), detector, str(folder))


def _find_plugin(plugins: Mapping[str, _Plugin], folder: Path) -> str:
    """The name of one whose files are there."""
    free_first = sorted(plugins, key=lambda name: not plugins[name].commercial)
    name = next((name for name in free_first if _holds(plugins[name], folder)), None)
    if name is None:
        kind = "detector" if isinstance(plugins[free_first[0]], DetectorPlugin) else "recogniser"
        offers = [
            f"{plugins[name].files} (from {plugins[name].published})"
            for name in free_first
            if plugins[name].names
        ]
        fault = f"holds no face {kind}" if folder.is_dir() else "is no folder"
        raise FaceModelNotFound(f"{folder} {fault}. It may be {', or '.join(offers)}")
    return name


def _holds(plugin: _Plugin, folder: Path) -> bool:
    return any((folder / name).is_file() for name in plugin.names)

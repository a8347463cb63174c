"""Reference pictures, with the face in them found, chosen and embedded."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jaxtyping import Float, UInt8
from torch import Tensor

from frisket.config.identity.tables import IdentityTable
from frisket.config.load import ConfigError
from frisket.faces.base import Embedder, EmbedderPlugin
from frisket.faces.choose import choose_face
from frisket.faces.detect import (
    DetectedFace,
    DetectorPlugin,
    FaceDetector,
    describe_faces,
    find_faces,
)
from frisket.faces.opening import open_detector, open_embedder
from frisket.inference.methods.plugin import ReferencePicture
from frisket.media.frames import decode
from frisket.registry import Shelf

log = logging.getLogger(__name__)

DEVICE = "cpu"  # a few pictures, before the denoiser; the same numbers whatever the card


FaceShelf = Shelf[EmbedderPlugin] | Shelf[DetectorPlugin]


@dataclass(frozen=True, slots=True)
class ChosenFace:
    """A reference picture, how many faces it shows, and where the one is that was taken."""

    picture: ReferencePicture
    faces: int = 0
    box: tuple[float, float, float, float] | None = None  # left, top, right, bottom in pixels


@dataclass(slots=True)
class PortraitReader:
    """Reads reference pictures; loads each network once."""

    loaded: dict[tuple[str, str, str], Any] = field(default_factory=dict)

    def read_pictures(self, table: IdentityTable) -> list[ChosenFace]:
        """The pictures of one table alone, nobody looked for in them. Raises BadMedia."""
        return [ChosenFace(ReferencePicture(path, read_frame(path))) for path in table.faces]

    def read_faces(self, table: IdentityTable) -> list[ChosenFace]:
        """The pictures of one table, each with the face that is meant, embedded.

        The table names its networks (`find_free` where the user did not). Raises BadMedia,
        FaceNotUsable, FaceModelNotFound, FaceModelUnusable and EmbeddingMixup.
        """
        detector, embedder = self.open_detector(table), self.open_embedder(table)
        like = None
        if table.like is not None:
            like_face = self._choose(detector, embedder, table.like, None)[0]
            assert like_face.embedding is not None
            like = like_face.embedding
        return [self._describe(detector, embedder, path, like) for path in table.faces]

    def read_pose(self, table: IdentityTable, path: Path) -> ChosenFace:
        """A picture with the key points of its largest face, not embedded."""
        frame = read_frame(path)
        faces = find_faces(self.open_detector(table), frame)
        face = self._tell_choice(faces, path, None, option="")
        assert face.keypoints is not None
        return _join(path, frame, face, len(faces))

    def open_detector(self, table: IdentityTable) -> FaceDetector:
        """The detector that a table names, loaded once."""
        source = _write_source(table.detector_source)
        detector: FaceDetector = self._open(open_detector, table.detector, source)
        return detector

    def open_embedder(self, table: IdentityTable) -> Embedder:
        """The embedder that a table names, loaded once."""
        source = _write_source(table.embedder_source)
        embedder: Embedder = self._open(open_embedder, table.embedder, source)
        return embedder

    def _open(self, opener: Callable[[str, str, str], Any], name: str, source: str) -> Any:
        key = opener.__name__, name, source
        if key not in self.loaded:
            self.loaded[key] = opener(name, source, DEVICE)
        return self.loaded[key]

    def _describe(
        self,
        detector: FaceDetector,
        embedder: Embedder,
        path: Path,
        like: Float[Tensor, " d"] | None,
    ) -> ChosenFace:
        face, count, frame = self._choose(detector, embedder, path, like)
        return _join(path, frame, face, count)

    def _choose(
        self,
        detector: FaceDetector,
        embedder: Embedder,
        path: Path,
        like: Float[Tensor, " d"] | None,
    ) -> tuple[DetectedFace, int, UInt8[Tensor, "H W 3"]]:
        """The face that is meant, embedded, out of how many, and the picture."""
        frame = read_frame(path)
        faces = find_faces(detector, frame)
        if like is not None:  # all must be compared
            faces = describe_faces(embedder, frame, faces)
        face = self._tell_choice(faces, path, like)
        if face.description is None:
            face = describe_faces(embedder, frame, [face])[0]
        return face, len(faces), frame

    def _tell_choice(
        self,
        faces: list[DetectedFace],
        path: Path,
        like: Float[Tensor, " d"] | None,
        option: str = "--like",
    ) -> DetectedFace:
        face, sentence = choose_face(faces, str(path), like, option)
        if sentence:
            log.warning("%s", sentence)
        return face


def _join(path: Path, frame: UInt8[Tensor, "H W 3"], face: DetectedFace, count: int) -> ChosenFace:
    box = (face.box.left, face.box.top, face.box.right, face.box.bottom)
    return ChosenFace(ReferencePicture(path, frame, face.description, face.keypoints), count, box)


def _write_source(path: Path | None) -> str:
    return "" if path is None else str(path)


def read_frame(path: Path) -> UInt8[Tensor, "H W 3"]:
    """A picture, upright; of an animation or a video its first frame. Raises BadMedia."""
    return decode(path, [0])[0]


def find_free(shelf: FaceShelf, kind: str) -> str:
    """The plugin that is taken where none is named: free for any use, and made for photographs.

    Those that bring their own weights know drawn people alone. ConfigError names all there are.
    """
    plugins = {name: shelf.load(name) for name in shelf.names()}
    free = [name for name, plugin in plugins.items() if plugin.commercial and plugin.files]
    if free:
        return free[0]
    listed = "; ".join(
        f"{name}: {plugin.licence.weights}" for name, plugin in sorted(plugins.items())
    )
    raise ConfigError(
        f"this method reads faces, and no {kind} is named whose weights are free for any use: give"
        f" --{kind} (or `{kind}` in [[identity]]). There are: {listed}"
    )

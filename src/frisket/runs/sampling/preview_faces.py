"""The people of `[preview.identity]`, looked for on every grid while a run trains."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from frisket.config.load import ConfigError
from frisket.config.previews.tables import PreviewIdentity
from frisket.evaluation.identity import PersonReferences
from frisket.faces.base import FaceModelUnusable
from frisket.faces.detect import DETECTORS
from frisket.faces.recognise import (
    FaceModels,
    FaceRecogniser,
    complete_models,
    open_recogniser,
)
from frisket.inference.generate import Picture
from frisket.media.paths import IMAGES
from frisket.registry import UnknownPlugin
from frisket.runs.likeness import measure_likeness, read_references

log = logging.getLogger(__name__)


@dataclass(slots=True)
class PreviewFaces:
    """People and what they are told apart by, on the CPU: the card is full while a run trains.

    `record` is what the newest grid came to, by person; empty before the first, and of a grid that
    could not be measured.
    """

    recogniser: FaceRecogniser
    people: Sequence[PersonReferences]
    record: dict[str, Any] = field(default_factory=dict)
    has_failed: bool = False

    def look(self, pictures: Sequence[Picture]) -> None:
        """Measure the pictures of one grid; what goes wrong there is said once and ends no run."""
        clips = [picture.frames for picture in pictures]
        self.record = {}
        try:
            table = measure_likeness(self.recogniser, clips, self.people)
        except Exception as error:  # of networks that strangers have trained
            if not self.has_failed:
                log.warning(
                    "preview.identity: the faces of a preview could not be measured (%s: %s);"
                    " training goes on, and this is not said again",
                    *(type(error).__name__, error),
                )
            self.has_failed = True
            return
        self.record = table.as_record()["people"]


def open_preview_faces(identity: PreviewIdentity) -> PreviewFaces | None:
    """Load the models and embed the references; None where nobody is asked about.

    Raises as check_preview_faces; FaceModelNotFound, FaceModelUnusable and FaceNotUsable say what
    is wrong with a model or a picture.
    """
    models = check_preview_faces(identity)
    if models is None:
        return None
    pictures = {name: list_pictures(name, place) for name, place in identity.faces.items()}
    recogniser = open_recogniser(models)
    return PreviewFaces(recogniser, read_references(recogniser, pictures))


def check_preview_faces(identity: PreviewIdentity) -> FaceModels | None:
    """What can be refused before anything is loaded; None where nobody is asked about.

    ConfigError for models that have no such name, and for files and pictures that are not there.
    """
    if not identity.embedder:
        return None
    for key, place in (
        ("source", identity.source),
        ("detector_source", identity.detector_source),
    ):
        if place is not None and not place.exists():
            raise ConfigError(f"preview.identity.{key}: {place} does not exist; name a folder")
    for person, place in identity.faces.items():
        list_pictures(person, place)
    models = FaceModels(
        identity.embedder,
        "" if identity.source is None else str(identity.source),
        identity.detector,
        "" if identity.detector_source is None else str(identity.detector_source),
    )
    try:
        complete = complete_models(models)
        DETECTORS.load(complete.detector)
    except (UnknownPlugin, FaceModelUnusable) as error:
        raise ConfigError(f"preview.identity: {error}") from error
    return complete


def list_pictures(person: str, place: Path) -> list[Path]:
    """The picture itself, or those of a folder by name; ConfigError where there is none."""
    if place.is_file():
        return [place]
    files = sorted(
        file for file in place.glob("*") if file.suffix.lower() in IMAGES and file.name[0] != "."
    )
    if not files:
        fault = "holds no picture" if place.is_dir() else "does not exist"
        raise ConfigError(
            f"preview.identity.faces.{person}: {place} {fault}; give a picture of {person}, or a"
            " folder of some"
        )
    return files

"""Tiny random builds of the vision models, in the folders that real weights come in."""

from collections.abc import Callable, Mapping
from pathlib import Path

from tests.maskgen.tiny import grounding, people, sam

# Backend to what writes a build of it into a folder that need not be there, and returns that.
BUILDS: Mapping[str, Callable[[Path], Path]] = {
    "attention": grounding.pocket,
    "clipseg": grounding.clipseg,
    "florence2": grounding.florence2,
    "grounding_dino": grounding.grounding_dino,
    "insightface": people.faces,
    "sam2": sam.sam2,
    "sam2_video": sam.sam2_video,
    "sam3": sam.sam3,
    "sam3_video": sam.sam3_video,
    "sapiens": people.sapiens2,
    "segformer": people.segformer,
}

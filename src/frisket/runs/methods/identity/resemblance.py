"""How like the people of the methods' references samples are, for `generate --compare`."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from frisket.evaluation.identity import PersonReferences
from frisket.faces.recognise import FaceRecogniser
from frisket.runs.likeness import measure_likeness
from frisket.runs.methods.identity.plan import MethodPlan, PlannedMethod
from frisket.runs.methods.identity.portrait import ChosenFace
from frisket.shapes import Frames


@dataclass(slots=True)
class Resemblance:
    """A line for the label of each sample, and what a record says; both empty where nobody is."""

    labels: list[str]
    records: list[dict[str, Any]] = field(default_factory=list)


def measure_resemblance(plan: MethodPlan, clips: Sequence[Frames]) -> Resemblance:
    """Every sample against everybody that the methods were shown, by the networks that read them.

    People are called by the name of their first picture. Where methods name
    several embedders, each measures those it has read. A sample without a face counts as 0. The
    network that a method was given is no neutral judge: it is what the method is told.
    """
    lines: list[list[str]] = [[] for _ in clips]
    records: list[dict[str, Any]] = []
    for methods in group_methods(plan.planned):
        table = methods[0].ask.table
        reader = plan.reader
        recogniser = FaceRecogniser(reader.open_detector(table), reader.open_embedder(table))
        people = list_people([method.faces for method in methods])
        likeness = measure_likeness(recogniser, clips, people)
        for index, line in enumerate(lines):
            line.append(likeness.describe(index))
        records.append({"embedder": table.embedder, **likeness.as_record()})
    return Resemblance([", ".join(line) for line in lines], records)


def group_methods(methods: Sequence[PlannedMethod]) -> list[list[PlannedMethod]]:
    """Those that were shown faces, by the networks that read them."""
    groups: dict[tuple[Any, ...], list[PlannedMethod]] = {}
    for method in methods:
        table = method.ask.table
        if any(face.picture.face is not None for face in method.faces):
            key = (
                *(table.embedder, table.embedder_source),
                *(table.detector, table.detector_source),
            )
            groups.setdefault(key, []).append(method)
    return list(groups.values())


def list_people(groups: Sequence[Sequence[ChosenFace]]) -> list[PersonReferences]:
    """Everybody once, by the faces each method was shown; names are each one's own.

    Methods that were shown one face in common (of the same picture, at the same place) were shown
    one person; of two faces in a group photo each is its own.
    """
    people: list[dict[tuple[Any, ...], Tensor]] = []
    for chosen_faces in groups:
        faces = {
            (face.picture.path, face.box): face.picture.face.raw
            for face in chosen_faces
            if face.picture.face is not None
        }
        for other in people:
            if other.keys() & faces.keys():
                faces = {**other, **faces}
        people = [other for other in people if not other.keys() & faces.keys()]
        people += [faces] if faces else []
    names: list[str] = []
    for faces in people:
        name = next(iter(faces))[0].stem
        names.append(f"{name}-{len(names) + 1}" if name in names else name)
    return [
        PersonReferences(name, torch.stack(list(faces.values())))
        for name, faces in zip(names, people, strict=True)
    ]

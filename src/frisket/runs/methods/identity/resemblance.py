"""How like the people of the methods' references samples are, for `generate --compare`."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from frisket.evaluation.identity import PersonReferences
from frisket.faces.recognise import FaceRecogniser
from frisket.runs.likeness import measure_likeness
from frisket.runs.methods.identity.plan import MethodPlan, PlannedMethod
from frisket.shapes import Frames


@dataclass(slots=True)
class Resemblance:
    """A line for the label of each sample, and what a record says; both empty where nobody is."""

    labels: list[str]
    records: list[dict[str, Any]] = field(default_factory=list)


def measure_resemblance(plan: MethodPlan, clips: Sequence[Frames]) -> Resemblance:
    """Every sample against everybody that the methods were shown, by the networks that read them.

    People are those of different pictures, called by the name of their first. Where methods name
    several embedders, each measures those it has read. A sample without a face counts as 0. The
    network that a method was given is no neutral judge: it is what the method is told.
    """
    lines: list[list[str]] = [[] for _ in clips]
    records: list[dict[str, Any]] = []
    for methods in group_methods(plan.planned):
        table = methods[0].ask.table
        reader = plan.reader
        recogniser = FaceRecogniser(reader.open_detector(table), reader.open_embedder(table))
        measured = measure_likeness(recogniser, clips, list_people(methods))
        for index, line in enumerate(lines):
            line.append(measured.describe(index))
        records.append({"embedder": table.embedder, **measured.as_record()})
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


def list_people(methods: Sequence[PlannedMethod]) -> list[PersonReferences]:
    """Everybody once, whichever methods they were shown to; names are each one's own."""
    people: dict[tuple[Any, ...], PersonReferences] = {}
    for method in methods:
        pictures = tuple(face.picture.path for face in method.faces)
        rows = [face.picture.face.raw for face in method.faces if face.picture.face is not None]
        if rows and pictures not in people:
            name = pictures[0].stem
            others = [person.name for person in people.values()]
            name = f"{name}-{len(others) + 1}" if name in others else name
            people[pictures] = PersonReferences(name, torch.stack(rows))
    return list(people.values())

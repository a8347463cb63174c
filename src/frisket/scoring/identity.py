"""Faces of generated pictures against those of the training pictures, region by region."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import torch

from frisket.evaluation.bootstrap import estimate
from frisket.evaluation.identity import FaceVector, IdentityScore, PersonReferences, measure_people
from frisket.faces.recognise import FaceRecogniser
from frisket.runs.likeness import list_faces, summarise_person
from frisket.scoring.clips import TrainingPicture
from frisket.shapes import Frames, Plane

SUBJECT = "subject"  # who is inside the mask where no regions have names

IDENTITY_COLUMNS: Mapping[str, str] = {
    "identity": (
        "Cosine with the mean training face, 0 for a picture without one; beneath, how far the mean"
        " would move with other pictures (95 %). Among the training pictures: each against the mean"
        " of the others, which is what the same person comes to."
    ),
    "faces found": "Share of the pictures that show a face.",
    "right person": (
        "Share of the pictures whose face is nearest to this person's, of all that were trained; a"
        " picture without a face is wrong."
    ),
    "copied": (
        "How much nearer faces are to a training picture than two training pictures are to each"
        " other. Well above 0, pictures are repeated; at or below 0, the person was learnt."
    ),
}


@dataclass(frozen=True, slots=True)
class PeopleScores:
    """Every run's (and the base's) score by person, over the same pictures for all."""

    people: tuple[PersonReferences, ...]
    runs: Mapping[str, Mapping[str, IdentityScore]]

    def average_cosines(self, run: str) -> list[float]:
        """One number a picture: the mean over the people, each by its own face."""
        scores = list(self.runs[run].values())
        return [fmean(cosines) for cosines in zip(*(s.cosines for s in scores), strict=True)]

    def average_detected(self, run: str) -> list[float]:
        """The share of the people whom each picture shows a face for."""
        scores = list(self.runs[run].values())
        return [fmean(detected) for detected in zip(*(s.detected for s in scores), strict=True)]

    def average_spread(self) -> float | None:
        """What training pictures of the same person come to; None of single ones."""
        spreads = [cosine for person in self.people for cosine in person.measure_spread()]
        return fmean(spreads) if spreads else None

    def as_record(self) -> dict[str, Any]:
        """For report.json, by run and person."""
        return {
            run: {name: summarise_person(score, score.cosines) for name, score in scores.items()}
            for run, scores in self.runs.items()
        }

    def build_rows(self) -> list[tuple[str, str, list[dict[str, str]]]]:
        """Run, person and a cell for each of IDENTITY_COLUMNS; the training pictures first."""
        rows = [
            ("training pictures", person.name, _build_reference_cells(person))
            for person in self.people
        ]
        for run, scores in self.runs.items():
            rows += [(run, name, _build_cells(score)) for name, score in scores.items()]
        return rows


def collect_references(
    recogniser: FaceRecogniser, training_pictures: Sequence[TrainingPicture]
) -> tuple[PersonReferences, ...]:
    """A person for each taught region whose faces lie inside it; regions without any are left out.

    A face in several regions (`face` within `person`) is the smallest one's: it is one person.
    Where no regions are named, whoever is inside the mask.
    """
    rows: dict[str, list[FaceVector]] = {}
    for picture in training_pictures:
        regions = picture.regions or {SUBJECT: picture.inside}
        planes = {name: pick_middle(plane)[None] for name, plane in regions.items()}
        taken_faces: list[FaceVector] = []
        for name in sorted(planes, key=lambda name: float(planes[name].sum())):
            raw = recogniser.embed_largest(pick_middle(picture.frames), planes[name])
            if raw is not None and not any(torch.allclose(raw, face) for face in taken_faces):
                taken_faces.append(raw)
                rows.setdefault(name, []).append(raw)
    return tuple(PersonReferences(name, torch.stack(faces)) for name, faces in rows.items())


def score_people(
    recogniser: FaceRecogniser,
    pictures: Mapping[str, Sequence[Frames]],
    people: Sequence[PersonReferences],
) -> PeopleScores:
    """Score every run's pictures, clips by their middle frames."""
    scores = {
        run: measure_people(
            [list_faces(recogniser, pick_middle(frames)) for frames in clips], people
        )
        for run, clips in pictures.items()
    }
    return PeopleScores(tuple(people), scores)


def pick_middle(frames: Frames | Plane) -> torch.Tensor:
    """The middle frame of a clip, or of a plane."""
    return frames[len(frames) // 2]


def _build_cells(score: IdentityScore) -> list[dict[str, str]]:
    return [
        _spell_interval(score.cosines),
        _spell_number(fmean(score.detected), ".0%"),
        _spell_number(fmean(score.right) if score.right else None, ".0%"),
        _spell_number(score.copying.excess, "+.2f"),
    ]


def _build_reference_cells(person: PersonReferences) -> list[dict[str, str]]:
    spread = person.measure_spread()
    first = _spell_interval(spread) if spread else _spell_number(None, "")
    return [first, _spell_number(None, ""), _spell_number(None, ""), _spell_number(None, "")]


def _spell_interval(values: Sequence[float]) -> dict[str, str]:
    interval = estimate(values)
    units = f"{interval.count} picture{'s' if interval.count > 1 else ''}"
    if interval.low is None or interval.high is None:
        return {"mean": f"{interval.mean:.2f}", "spread": f"no spread ({units})"}
    return {
        "mean": f"{interval.mean:.2f}",
        "spread": f"{interval.low:.2f} to {interval.high:.2f} ({units})",
    }


def _spell_number(number: float | None, form: str) -> dict[str, str]:
    return {"mean": "" if number is None else format(number, form), "spread": ""}

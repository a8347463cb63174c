"""Generated pictures against training pictures: backgrounds that leaked, subjects that were hit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

import torch

from frisket.evaluation import backgrounds
from frisket.evaluation.changes import measure_changes
from frisket.evaluation.patches import match_patches
from frisket.faces.recognise import FaceRecogniser
from frisket.inference.generate import Picture
from frisket.scoring.clips import TrainingPicture, pick_frames
from frisket.scoring.feature_extractors import FeatureExtractor
from frisket.scoring.identity import PeopleScores, collect_references, pick_middle, score_people
from frisket.shapes import Frames

_Pictures = Mapping[str, Sequence[Picture]]  # by run, of the same prompts and seeds
_Near = dict[str, list[float]]  # likeness of each picture, by run

COPY = "training pictures"
# A copy must be so much more alike than the base is, or likeness tells nothing. Cosines of patches
# lie closer together than intersections of histograms.
LOOKS_TELL, FEATURES_TELL = 0.1, 0.05
TOO_ALIKE = (
    "the training backgrounds are hardly told from what the base paints for these prompts"
    " (other prompts may help, or --features)"
)


@dataclass(slots=True)
class Likeness:
    """Values of each metric by run, the raw numbers behind them, and why others are lacking."""

    values: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    raw: dict[str, dict[str, float]] = field(default_factory=dict)
    lacking: dict[str, str] = field(default_factory=dict)
    identity: PeopleScores | None = None  # person by person; None where no faces are looked at

    def put(self, metric: str, of: Mapping[str, list[float]]) -> None:
        """Keep what was measured of each run."""
        for name, values in of.items():
            self.values.setdefault(name, {})[metric] = values


def measure_likeness(
    pictures: _Pictures,
    taught: Sequence[TrainingPicture],
    extractor: FeatureExtractor | None,
    faces: FaceRecogniser | None,
    base: str,
) -> Likeness:
    """All that pictures can tell; `base` is the name of the base among `pictures`."""
    likeness = Likeness()
    if not any(pictures.values()):
        likeness.lacking["leak"] = "nothing was sampled"
        return likeness
    theirs = [pick_frames(picture.frames) for picture in pictures[base]]
    for name, some in pictures.items():
        if name != base:
            moved = measure_changes([pick_frames(picture.frames) for picture in some], theirs)
            likeness.put("changed", {name: moved})
    if not taught:
        likeness.lacking["leak"] = "no run has masks, so the training backgrounds are not known"
        return likeness
    _compare_colours(likeness, pictures, taught, base)
    if extractor is not None:
        _compare_features(likeness, pictures, taught, extractor, base)
    if faces is not None:
        _compare_faces(likeness, pictures, taught, faces)
    return likeness


def _cover_all(frames: Frames) -> torch.Tensor:
    return torch.ones(frames.shape[:3])


def _compare_colours(
    likeness: Likeness, pictures: _Pictures, taught: Sequence[TrainingPicture], base: str
) -> None:
    looks = {
        name: [_extract_features(pick_frames(picture.frames)) for picture in some]
        for name, some in pictures.items()
    }
    pairs = [
        (
            _extract_features(training_picture.frames),
            backgrounds.describe_background(training_picture.frames, training_picture.outside),
        )
        for training_picture in taught
    ]
    known = [(picture, around) for picture, around in pairs if around is not None]
    if not known:
        likeness.lacking["leak"] = "the masks leave no background on any training picture"
        return
    behind = [around for _, around in known]
    for which in ("colour", "texture", "both"):

        def near(
            look: backgrounds.BackgroundFeatures,
            other: backgrounds.BackgroundFeatures,
            which: str = which,
        ) -> float:
            return backgrounds.compare_backgrounds(look, other)[which]

        raw = {name: backgrounds.find_nearest(some, behind, near) for name, some in looks.items()}
        copy = backgrounds.score_copies([picture for picture, _ in known], behind, near)
        _record_means(likeness, f"leak/{which}", raw, copy)
        if which == "both":
            _measure_leaks(likeness, "leak", raw, copy, base, LOOKS_TELL)


def _extract_features(frames: Frames) -> backgrounds.BackgroundFeatures:
    features = backgrounds.describe_background(frames, _cover_all(frames))
    assert features is not None  # all of it is outside
    return features


def _compare_features(
    likeness: Likeness,
    pictures: _Pictures,
    taught: Sequence[TrainingPicture],
    extractor: FeatureExtractor,
    base: str,
) -> None:
    shown = {
        name: [
            extractor.patches(frame, torch.ones(1, *frame.shape[:2]))
            for frame in map(pick_middle, some)
        ]
        for name, some in (
            (name, [picture.frames for picture in some]) for name, some in pictures.items()
        )
    }
    for metric, planes in (
        ("leak/features", [training_picture.outside for training_picture in taught]),
        ("subject/features", [training_picture.inside for training_picture in taught]),
    ):
        references = [
            extractor.patches(pick_middle(training_picture.frames), plane[len(plane) // 2][None])
            for training_picture, plane in zip(taught, planes, strict=True)
        ]
        references = [patches for patches in references if not patches.empty]
        if not references:
            likeness.lacking[metric] = "the masks leave nothing of it on any training picture"
            continue
        raw = {
            name: backgrounds.find_nearest(some, references, match_patches)
            for name, some in shown.items()
        }
        copy = backgrounds.score_copies(references, references, match_patches)
        _record_means(likeness, metric, raw, copy)
        _measure_leaks(likeness, metric, raw, copy, base, FEATURES_TELL)


def _compare_faces(
    likeness: Likeness,
    pictures: _Pictures,
    taught: Sequence[TrainingPicture],
    faces: FaceRecogniser,
) -> None:
    people = collect_references(faces, taught)
    if not people:
        likeness.lacking["identity"] = "no face was found inside the masks of the training pictures"
        return
    clips = {name: [picture.frames for picture in some] for name, some in pictures.items()}
    scores = score_people(faces, clips, people)
    likeness.identity = scores
    likeness.put("faces", {name: scores.average_detected(name) for name in clips})
    likeness.put("identity", {name: scores.average_cosines(name) for name in clips})
    spread = scores.average_spread()
    if spread is not None:
        likeness.raw["identity"] = {COPY: spread}


def _measure_leaks(
    likeness: Likeness, metric: str, raw: _Near, copy: float | None, base: str, least: float
) -> None:
    for name, values in raw.items():
        shares = backgrounds.measure_leak(values, raw[base], copy, least)
        if shares is None:
            likeness.lacking[metric] = TOO_ALIKE
        elif name != base:
            likeness.put(metric, {name: shares})


def _record_means(likeness: Likeness, metric: str, raw: _Near, copy: float | None) -> None:
    likeness.raw[metric] = {name: fmean(values) for name, values in raw.items()}
    if copy is not None:
        likeness.raw[metric][COPY] = copy

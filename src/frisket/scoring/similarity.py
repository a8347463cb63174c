"""Generated pictures against training pictures: backgrounds that leaked, subjects that were hit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

import torch

from frisket.evaluation import backgrounds
from frisket.evaluation.changes import measure_changes
from frisket.evaluation.patches import cosine, match_patches
from frisket.inference.generate import Picture
from frisket.scoring.clips import Taught, some_frames
from frisket.scoring.feature_extractors import Eyes, Faces, mean_face
from frisket.shapes import Frames

Pictures = Mapping[str, Sequence[Picture]]  # by run, of the same prompts and seeds
Near = dict[str, list[float]]  # likeness of each picture, by run

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

    def put(self, metric: str, of: Mapping[str, list[float]]) -> None:
        """Keep what was measured of each run."""
        for name, values in of.items():
            self.values.setdefault(name, {})[metric] = values


def likeness_of(
    pictures: Pictures,
    taught: Sequence[Taught],
    eyes: Eyes | None,
    faces: Faces | None,
    base: str,
) -> Likeness:
    """All that pictures can tell; `base` is the name of the base among `pictures`."""
    made = Likeness()
    if not any(pictures.values()):
        made.lacking["leak"] = "nothing was sampled"
        return made
    theirs = [some_frames(each.frames) for each in pictures[base]]
    for name, some in pictures.items():
        if name != base:
            moved = measure_changes([some_frames(each.frames) for each in some], theirs)
            made.put("changed", {name: moved})
    if not taught:
        made.lacking["leak"] = "no run has masks, so the training backgrounds are not known"
        return made
    _colours(made, pictures, taught, base)
    if eyes is not None:
        _features(made, pictures, taught, eyes, base)
    if faces is not None:
        _faces(made, pictures, taught, faces)
    return made


def _whole(frames: Frames) -> torch.Tensor:
    return torch.ones(frames.shape[:3])


def _colours(made: Likeness, pictures: Pictures, taught: Sequence[Taught], base: str) -> None:
    looks = {
        name: [_look(some_frames(each.frames)) for each in some] for name, some in pictures.items()
    }
    pairs = [
        (_look(one.frames), backgrounds.describe_background(one.frames, one.outside))
        for one in taught
    ]
    known = [(picture, around) for picture, around in pairs if around is not None]
    if not known:
        made.lacking["leak"] = "the masks leave no background on any training picture"
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
        _tell(made, f"leak/{which}", raw, copy)
        if which == "both":
            _leaks(made, "leak", raw, copy, base, LOOKS_TELL)


def _look(frames: Frames) -> backgrounds.BackgroundFeatures:
    seen = backgrounds.describe_background(frames, _whole(frames))
    assert seen is not None  # all of it is outside
    return seen


def _features(
    made: Likeness, pictures: Pictures, taught: Sequence[Taught], eyes: Eyes, base: str
) -> None:
    shown = {
        name: [eyes.patches(frame, torch.ones(1, *frame.shape[:2])) for frame in map(_middle, some)]
        for name, some in (
            (name, [each.frames for each in some]) for name, some in pictures.items()
        )
    }
    for metric, planes in (
        ("leak/features", [one.outside for one in taught]),
        ("subject/features", [one.inside for one in taught]),
    ):
        meant = [
            eyes.patches(_middle(one.frames), plane[len(plane) // 2][None])
            for one, plane in zip(taught, planes, strict=True)
        ]
        meant = [patches for patches in meant if not patches.empty]
        if not meant:
            made.lacking[metric] = "the masks leave nothing of it on any training picture"
            continue
        raw = {
            name: backgrounds.find_nearest(some, meant, match_patches)
            for name, some in shown.items()
        }
        copy = backgrounds.score_copies(meant, meant, match_patches)
        _tell(made, metric, raw, copy)
        _leaks(made, metric, raw, copy, base, FEATURES_TELL)


def _faces(made: Likeness, pictures: Pictures, taught: Sequence[Taught], faces: Faces) -> None:
    own = [faces.embedding(_middle(one.frames), _middle_plane(one.inside)) for one in taught]
    known = [embedding for embedding in own if embedding is not None]
    if not known:
        made.lacking["identity"] = "no face was found inside the masks of the training pictures"
        return
    middle = mean_face(known)
    for name, some in pictures.items():
        seen = [faces.embedding(_middle(each.frames)) for each in some]
        made.put("faces", {name: [float(face is not None) for face in seen]})
        close = [cosine(face, middle) for face in seen if face is not None]
        if close:
            made.put("identity", {name: close})
    made.raw["identity"] = {COPY: fmean(cosine(face, middle) for face in known)}


def _leaks(
    made: Likeness, metric: str, raw: Near, copy: float | None, base: str, least: float
) -> None:
    for name, values in raw.items():
        told = backgrounds.measure_leak(values, raw[base], copy, least)
        if told is None:
            made.lacking[metric] = TOO_ALIKE
        elif name != base:
            made.put(metric, {name: told})


def _tell(made: Likeness, metric: str, raw: Near, copy: float | None) -> None:
    made.raw[metric] = {name: fmean(values) for name, values in raw.items()}
    if copy is not None:
        made.raw[metric][COPY] = copy


def _middle(frames: Frames) -> torch.Tensor:
    return frames[len(frames) // 2]


def _middle_plane(plane: torch.Tensor) -> torch.Tensor:
    return plane[len(plane) // 2][None]

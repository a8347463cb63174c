"""Which people and things of a picture are trained: all, the largest, the nearest, or one face."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from frisket.maskgen.base import Box, Detections, Face, Instance, SoftMask
from frisket.maskgen.cleanup.stages import draw_rectangle
from frisket.maskgen.tracking.matching import PixelFlags, assign, to_flags
from frisket.maskgen.tracking.tracker import Tracked

ChoiceKind = Literal["all", "largest", "nearest", "face"]

PARTS = frozenset({"face", "hair", "hands", "skin", "clothes", "body"})  # regions of people
PART_OF = 0.8  # share of a body that must lie on another to be a part of it
ATTACHED = 0.5  # share of a part that must lie with a person for it to be theirs
MARGIN = 0.05  # cosine by which the best face must beat the second for there to be no doubt
TOUCHING = 0.1  # IoU from which a face that was found is that of a face region
SETTLED = 2.0  # above what `_fit` gives a face
CLEAR = 2 / 3  # share of the frames that must agree on a track for there to be no doubt


@dataclass(frozen=True, slots=True)
class InstanceChoice:
    """Which instances are kept. ValueError where a kind lacks what it needs.

    `threshold` is the cosine from which two ArcFace embeddings are taken for one person: 0.35 lies
    between the cuts that deepface ships (config/threshold.py, there as 1 - cosine) for ArcFace,
    0.32, and for InsightFace's buffalo_l, 0.45. Other recognisers need their own.
    """

    kind: ChoiceKind = "all"
    point: tuple[float, float] | None = None  # (x, y) as shares of width and height
    references: Float[Tensor, "n d"] | None = None  # faces of who is meant, any length
    threshold: float = 0.35

    def __post_init__(self) -> None:
        if self.kind == "nearest" and self.point is None:
            raise ValueError(
                "the nearest instance needs a point, such as (0.5, 0.5) for the middle"
            )
        if self.point and not all(0 <= share <= 1 for share in self.point):
            raise ValueError(f"the point is {self.point}; give shares of width and height, 0 to 1")
        if self.kind == "face" and (self.references is None or not len(self.references)):
            raise ValueError("choosing by face needs an embedding of at least one reference face")
        if not -1 <= self.threshold <= 1:
            raise ValueError(f"the threshold is {self.threshold}; a cosine lies between -1 and 1")


@dataclass(frozen=True, slots=True)
class PersonInstance:
    """One human: the places of their instances, and all they cover."""

    members: tuple[int, ...]
    mask: PixelFlags
    box: Box  # around the mask

    def merge_with(self, other: "PersonInstance") -> "PersonInstance":
        """Both as one person, with the box around both."""
        box = Box(
            min(self.box.left, other.box.left),
            min(self.box.top, other.box.top),
            max(self.box.right, other.box.right),
            max(self.box.bottom, other.box.bottom),
        )
        members = tuple(sorted(self.members + other.members))
        return PersonInstance(members, self.mask | other.mask, box)


@dataclass(frozen=True, slots=True)
class SelectedInstances:
    """Tracks that are kept and tracks that are not, and why that is not to be trusted."""

    kept: frozenset[int]
    others: frozenset[int]
    unsure: str = ""


def group_persons(instances: Sequence[Instance]) -> list[PersonInstance]:
    """Instances grouped by person, in the order of their first one.

    Those with a number go by it. Of the others every body begins a person, unless it lies on
    another, as an arm does. Each other region of PARTS goes to whom at least half of it lies with:
    on their mask, or in their box made taller by the part, since a head may stand above a body it
    is no part of. Where several would do for a head, their upper ends decide. Nobody has two faces.
    What is left begins a person of its own. Empty masks are nobody's, nor are regions that are no
    parts of people and have no number.
    """
    by_region: dict[str, list[PersonInstance]] = {}
    numbered: dict[int, PersonInstance] = {}
    for at, instance in enumerate(instances):
        part = _make_person(at, instance.mask)
        if part is None:
            continue
        if instance.person is not None:
            so_far = numbered.get(instance.person)
            numbered[instance.person] = so_far.merge_with(part) if so_far else part
        elif instance.region in PARTS:
            by_region.setdefault(instance.region, []).append(part)
    people = list(numbered.values())
    _add_bodies(people, by_region.pop("body", []))
    face_places = {at for at, instance in enumerate(instances) if instance.region == "face"}
    _add_faces(people, by_region.pop("face", []), face_places)
    for region, parts in by_region.items():
        for part in parts:
            fits = [_fit(part, person, of_head=region == "hair") for person in people]
            _join(people, fits.index(max(fits)) if max(fits, default=0.0) > 0 else None, part)
    return sorted(people, key=lambda person: person.members)


def _make_person(at: int, mask: SoftMask) -> PersonInstance | None:
    flags = to_flags(mask)
    rows, columns = flags.any(1).nonzero()[:, 0].tolist(), flags.any(0).nonzero()[:, 0].tolist()
    if not rows:
        return None
    box = Box(float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))
    return PersonInstance((at,), flags, box)


def _join(people: list[PersonInstance], whose: int | None, part: PersonInstance) -> None:
    if whose is None:
        people.append(part)
    else:
        people[whose] = people[whose].merge_with(part)


def _add_bodies(people: list[PersonInstance], bodies: list[PersonInstance]) -> None:
    """The largest first, so that an arm or a second find joins the body it is on."""
    for part in sorted(bodies, key=lambda body: -int(body.mask.sum())):
        hosts = (n for n, person in enumerate(people) if _share(part, person.mask) >= PART_OF)
        _join(people, next(hosts, None), part)


def _add_faces(
    people: list[PersonInstance], faces: list[PersonInstance], face_places: set[int]
) -> None:
    """Each face to its best body, one to one; `face_places` are the places of all faces."""
    fits = {
        (at, n): _fit(part, person, of_head=True)
        for at, part in enumerate(faces)
        for n, person in enumerate(people)
        if face_places.isdisjoint(person.members)
    }
    matches = assign({pair: fit for pair, fit in fits.items() if fit > 0}, 0.0)
    for at, part in enumerate(faces):
        _join(people, matches.get(at), part)


def _share(part: PersonInstance, mask: PixelFlags) -> float:
    """How much of a part lies on a mask."""
    rows, columns = _slice_box(part.box)
    pixels = part.mask[rows, columns]
    shared = pixels & mask[rows, columns]
    return int(shared.sum()) / int(pixels.sum())


def _fit(part: PersonInstance, person: PersonInstance, *, of_head: bool) -> float:
    """How well a part goes with a person: 0 where less than half of it lies with them.

    Of several bodies behind a face or hair the right one begins there, whatever else is behind it.
    """
    high = part.box.bottom - part.box.top
    taller = replace(person.box, top=max(person.box.top - high, 0.0))
    rows, columns = _slice_box(taller)
    on = _share(part, person.mask)
    in_box = int(part.mask[rows, columns].sum()) / int(part.mask.sum())
    if max(on, in_box) < ATTACHED:
        return 0.0
    if not of_head:
        return on + in_box
    (x, y), (middle, _) = part.box.centre, person.box.centre
    return max(on, in_box) / (1 + math.hypot(x - middle, y - person.box.top) / high)


def _slice_box(box: Box) -> tuple[slice, slice]:
    return slice(int(box.top), int(box.bottom)), slice(int(box.left), int(box.right))


@dataclass(frozen=True, slots=True)
class _Pick:
    """A choice in one picture, by the places of instances."""

    kept: frozenset[int]
    silent: frozenset[int]  # people nothing could be said of
    unsure: str = ""


def choose(
    detections: Detections, how: InstanceChoice, faces: Sequence[Face] | None, size: tuple[int, int]
) -> tuple[Detections, Detections]:
    """What is kept of one picture of `size` (height, width), and the others.

    Of people one is kept whole (with kind "all" everybody). Other things obey "largest" and
    "nearest", one a region; "face" keeps them all. Where no face matches, nobody is kept, and both
    answers are unsure; so they are where two faces match nearly alike. `faces` are those of this
    picture, with embeddings; kind "face" raises ValueError without.
    """
    pick = _pick(detections.instances, how, faces, size)
    doubt = "; ".join(filter(None, (detections.unsure, pick.unsure)))
    selected = tuple(
        instance for at, instance in enumerate(detections.instances) if at in pick.kept
    )
    rest = tuple(
        instance for at, instance in enumerate(detections.instances) if at not in pick.kept
    )
    return Detections(selected, doubt), Detections(rest, doubt)


def choose_tracks(
    frames: Iterable[tuple[Sequence[Tracked], Sequence[Face] | None]],
    how: InstanceChoice,
    size: tuple[int, int],
) -> SelectedInstances:
    """The same choice for a clip: a track is kept if most frames that have a say keep it.

    Frames are (tracks, faces), read once, one at a time. For kind "face" only frames in which
    somebody is recognised have a say on people, so faces may be None where they were not looked
    for. Numbers of people in the instances are not looked at: they hold within one picture only.
    """
    numbers: set[int] = set()
    wins: Counter[int] = Counter()
    votes: Counter[int] = Counter()
    frame_count = doubt_count = 0
    for tracks, faces in frames:
        numbers |= {track.number for track in tracks}
        if how.kind == "face" and faces is None:
            continue
        loose = [replace(track.instance, person=None) for track in tracks]
        pick = _pick(loose, how, faces, size)
        frame_count += 1
        doubt_count += bool(pick.unsure)
        wins.update(tracks[at].number for at in pick.kept)
        votes.update(track.number for at, track in enumerate(tracks) if at not in pick.silent)
    selected = frozenset(number for number in numbers if 2 * wins[number] > votes[number])
    doubts = [
        f"track {number} was chosen in {wins[number]} of {votes[number]} frames only"
        for number in sorted(selected)
        if wins[number] < CLEAR * votes[number]
    ]
    if doubt_count:
        doubts.insert(
            0, f"{doubt_count} of {frame_count} frames did not show for sure who is meant"
        )
    return SelectedInstances(selected, frozenset(numbers) - selected, "; ".join(doubts))


def _pick(
    instances: Sequence[Instance],
    how: InstanceChoice,
    faces: Sequence[Face] | None,
    size: tuple[int, int],
) -> _Pick:
    if how.kind == "all":
        return _Pick(frozenset(range(len(instances))), frozenset())
    people = group_persons(instances)
    members = frozenset(at for person in people for at in person.members)
    things = _choose_things(instances, members, how, size)
    if how.kind == "face":
        person, doubt = _recognise(people, instances, how, faces)
        silent = members if person is None else frozenset[int]()
    else:
        person = min(people, key=lambda person: _rank(person.mask, how, size), default=None)
        doubt, silent = "", frozenset()
    return _Pick(things | frozenset(person.members if person else ()), silent, doubt)


def _choose_things(
    instances: Sequence[Instance],
    members: frozenset[int],
    how: InstanceChoice,
    size: tuple[int, int],
) -> frozenset[int]:
    """What is nobody's: all of it, or the best of each region."""
    regions: dict[str, list[int]] = {}
    for at, instance in enumerate(instances):
        if at not in members and to_flags(instance.mask).any():
            regions.setdefault(instance.region, []).append(at)
    if how.kind == "face":
        return frozenset(at for group in regions.values() for at in group)
    best = (
        min(group, key=lambda at: _rank(instances[at].mask, how, size))
        for group in regions.values()
    )
    return frozenset(best)


def _rank(
    mask: SoftMask | PixelFlags, how: InstanceChoice, size: tuple[int, int]
) -> tuple[float, float]:
    """The lower, the better; the second number breaks ties of several around one point."""
    if how.point is None or how.kind == "largest":
        return -float(to_flags(mask).sum()), 0.0
    (height, width), (x, y) = size, how.point
    rows, columns = to_flags(mask).nonzero(as_tuple=True)
    down, across = rows + 0.5 - y * height, columns + 0.5 - x * width
    nearest = float(torch.hypot(down, across).min())
    middle = math.hypot(float(down.mean()), float(across.mean()))
    return (nearest if nearest > 1 else 0.0), middle


def _recognise(
    people: Sequence[PersonInstance],
    instances: Sequence[Instance],
    how: InstanceChoice,
    faces: Sequence[Face] | None,
) -> tuple[PersonInstance | None, str]:
    """Who has the reference face, or why nobody has; with a doubt where two match nearly alike."""
    if faces is None or any(face.embedding is None for face in faces):
        raise ValueError(
            "choosing by face needs faces with embeddings; take a face backend that recognises"
            " (insightface)"
        )
    if not faces:
        return None, "no face was found to compare"
    alike = _compare_faces(faces, how)
    order = sorted(range(len(faces)), key=lambda at: -alike[at])
    best = alike[order[0]]
    if best < how.threshold:
        return None, f"no face matches (the best cosine is {best:.2f}, not {how.threshold:.2f})"
    face = faces[order[0]].box
    fits = [_rate_face(face, person, instances) for person in people]
    if max(fits, default=0.0) <= 0:
        return None, "the face that matches is on nobody that was found"
    person = people[fits.index(max(fits))]
    second = alike[order[1]] if len(order) > 1 else -1.0
    if second >= how.threshold and best - second < MARGIN:
        return person, f"two faces match nearly alike (cosine {best:.2f} and {second:.2f})"
    return person, ""


def _compare_faces(faces: Sequence[Face], how: InstanceChoice) -> list[float]:
    """Of each face, with the reference it is most like."""
    embeddings = torch.stack(
        [face.embedding for face in faces if face.embedding is not None]
    ).float()
    references = how.references
    if references is None or references.shape[1] != embeddings.shape[1]:
        count = 0 if references is None else references.shape[1]
        raise ValueError(
            f"the references have {count} numbers and the faces {embeddings.shape[1]}; take both"
            " from one recogniser"
        )
    alike = normalize(embeddings) @ normalize(references.float().to(embeddings.device)).T
    best: list[float] = alike.amax(1).tolist()
    return best


def _rate_face(face: Box, person: PersonInstance, instances: Sequence[Instance]) -> float:
    """How well a found face goes with a person; a face of theirs beneath it settles it."""
    high, wide = person.mask.shape
    cut = face.within(high, wide)
    part = cut and _make_person(-1, draw_rectangle(cut, high, wide))
    if not part:
        return 0.0
    faces = (instances[at] for at in person.members if instances[at].region == "face")
    own_faces = (_make_person(-1, face_instance.mask) for face_instance in faces)
    overlaps = [own_face.box.overlap(part.box) for own_face in own_faces if own_face]
    if overlaps:
        return SETTLED + max(overlaps) if max(overlaps) > TOUCHING else 0.0
    return _fit(part, person, of_head=True)

"""Who is who in a picture, and which of them is trained."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from frisket.maskgen.base import Box, Detections, Face, Instance, SoftMask
from frisket.maskgen.cleanup.instances import InstanceChoice, choose, choose_tracks, group_persons
from frisket.maskgen.tracking.tracker import Tracked

SIZE = HIGH, WIDE = 80, 160
ANNA, BERT, CARL = torch.eye(8)[0], torch.eye(8)[1], torch.eye(8)[2]


def rectangle(left: int, top: int, right: int, bottom: int) -> SoftMask:
    mask = torch.zeros(HIGH, WIDE)
    mask[top:bottom, left:right] = 1
    return mask


def person(left: int, wide: int = 30, top: int = 10, number: int | None = None) -> list[Instance]:
    """Hair, face and body that share no pixel, as a parser gives them."""
    head = rectangle(left + wide // 3, top, left + 2 * wide // 3, top + 15)
    hair = head.clone()
    hair[top + 5 :] = 0
    body = rectangle(left, top + 15, left + wide, HIGH)
    parts = {"hair": hair, "face": head - hair, "body": body}
    return [Instance(region, mask, 0.9, person=number) for region, mask in parts.items()]


def face(left: int, embedding: torch.Tensor | None, top: int = 10, wide: int = 30) -> Face:
    sides = (left + wide // 3, top + 3, left + 2 * wide // 3, top + 15)
    return Face(Box(*map(float, sides), score=0.9), embedding=embedding)


def thing(left: int, region: str = "subject", wide: int = 10) -> Instance:
    return Instance(region, rectangle(left, 60, left + wide, 60 + wide), 0.8)


def in_front(back: list[Instance], front: list[Instance]) -> tuple[list[Instance], list[Instance]]:
    """Two people of whom one hides a part of the other."""
    free = 1 - torch.stack([one.mask for one in front]).amax(0)
    return [replace(one, mask=one.mask * free) for one in back], front


def groups(instances: Sequence[Instance]) -> list[tuple[int, ...]]:
    return [one.members for one in group_persons(instances)]


def test_people_are_grouped_by_their_number() -> None:
    left, right = person(0, number=7), person(0, number=3)
    assert groups([left[0], right[0], left[1], right[1]]) == [(0, 2), (1, 3)]


def test_people_are_grouped_by_place_where_there_are_no_numbers() -> None:
    parts = [*person(5), *person(60), *person(110)]
    order = [8, 0, 4, 2, 6, 1, 5, 3, 7]
    shuffled = [parts[at] for at in order]
    found = [sorted(order[at] for at in members) for members in groups(shuffled)]
    assert sorted(found) == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]


def test_parts_on_a_mask_of_the_whole_person_are_theirs() -> None:
    whole = [Instance("body", rectangle(left, 5, left + 40, HIGH)) for left in (0, 90)]
    assert groups([*whole, person(92)[1], person(2)[1]]) == [(0, 3), (1, 2)]


def test_an_arm_and_a_second_find_of_a_body_are_nobody_new() -> None:
    body = person(10)[2]
    arm = Instance("body", rectangle(10, 30, 16, 60), phrase="arm")
    again = Instance("body", rectangle(11, 26, 39, HIGH), phrase="girl")
    assert groups([arm, body, again, *person(90)]) == [(0, 1, 2), (3, 4, 5)]


def test_a_child_in_front_of_an_adult_keeps_its_own_face() -> None:
    adult, child = in_front(person(20, wide=60, top=2), person(45, wide=24, top=40))
    assert groups([*adult, *child]) == [(0, 1, 2), (3, 4, 5)]


def test_nobody_has_two_faces_and_a_lone_face_is_somebody() -> None:
    faces = [person(10)[1], person(110)[1]]
    assert groups([*faces, person(10)[2]]) == [(0, 2), (1,)]
    assert groups([person(10)[2], person(10)[1], person(10)[1]]) == [(0, 1), (2,)]


def test_things_and_empty_masks_are_nobody() -> None:
    empty = Instance("face", torch.zeros(HIGH, WIDE))
    assert groups([thing(0), empty, *person(60)]) == [(2, 3, 4)]
    assert group_persons([]) == []


def kept(
    instances: Sequence[Instance], how: InstanceChoice, faces: Sequence[Face] | None = None
) -> set[int]:
    """The places of what is kept; nothing is lost or changed."""
    seen = Detections(tuple(instances))
    chosen, others = choose(seen, how, faces, SIZE)
    assert {id(one) for one in (*chosen.instances, *others.instances)} == {
        id(one) for one in instances
    }
    assert len(chosen.instances) + len(others.instances) == len(instances)
    return {at for at, one in enumerate(instances) if any(one is it for it in chosen.instances)}


CROWD = [*person(0), *person(50, wide=45), *person(120)]


def test_everybody_is_kept_unless_asked_otherwise() -> None:
    assert kept([*CROWD, thing(0)], InstanceChoice()) == set(range(10))


def test_the_largest_person_is_kept_whole() -> None:
    assert kept(CROWD, InstanceChoice("largest")) == {3, 4, 5}


@pytest.mark.parametrize(
    ("x", "members"), [(0.05, {0, 1, 2}), (0.4, {3, 4, 5}), (0.7, {6, 7, 8}), (1.0, {6, 7, 8})]
)
def test_the_nearest_person_is_kept(x: float, members: set[int]) -> None:
    assert kept(CROWD, InstanceChoice("nearest", point=(x, 0.9))) == members


def test_a_point_on_two_people_takes_the_one_around_it() -> None:
    adult, child = in_front(person(0, wide=150, top=2), person(100, wide=24, top=40))
    assert kept([*adult, *child], InstanceChoice("nearest", point=(0.7, 0.85))) == {3, 4, 5}


def test_other_things_obey_size_and_point_but_not_the_face() -> None:
    things = [thing(2), thing(140, wide=18), thing(30, "logo"), *person(60)]
    assert kept(things, InstanceChoice("largest")) == {1, 2, 3, 4, 5}
    assert kept(things, InstanceChoice("nearest", point=(0.0, 0.8))) == {0, 2, 3, 4, 5}
    how = InstanceChoice("face", references=ANNA[None])
    assert kept(things, how, [face(60, BERT)]) == {0, 1, 2}


def test_the_person_of_the_reference_face_is_kept_and_the_others_are_not() -> None:
    faces = [face(0, ANNA), face(50, BERT, wide=45), face(120, CARL)]
    for reference, members in ((ANNA, {0, 1, 2}), (BERT, {3, 4, 5}), (CARL, {6, 7, 8})):
        how = InstanceChoice("face", references=torch.stack([reference * 20]))  # not of unit length
        assert kept(CROWD, how, faces) == members


def test_any_of_several_references_will_do() -> None:
    how = InstanceChoice("face", references=torch.stack([CARL, ANNA]))
    assert kept(CROWD, how, [face(0, ANNA), face(50, BERT, wide=45)]) == {0, 1, 2}


def test_without_a_face_region_the_body_below_the_face_is_taken() -> None:
    bodies = [person(left)[2] for left in (0, 60, 120)]
    how = InstanceChoice("face", references=BERT[None])
    assert kept(bodies, how, [face(0, ANNA), face(60, BERT)]) == {1}


@pytest.mark.parametrize(
    ("faces", "said"),
    [
        ([], "no face was found"),
        ([face(0, BERT)], r"no face matches \(the best cosine is 0.00, not 0.35\)"),
        ([face(90, ANNA, top=0)], "on nobody that was found"),
    ],
)
def test_where_nobody_is_recognised_nobody_is_kept_and_it_is_said(
    faces: list[Face], said: str
) -> None:
    people = [*person(0), *person(120)]
    chosen, others = choose(
        Detections(tuple(people), "dark"),
        InstanceChoice("face", references=ANNA[None]),
        faces,
        SIZE,
    )
    assert chosen.instances == ()
    assert len(others.instances) == 6
    assert chosen.unsure.startswith("dark; ")
    with pytest.raises(AssertionError, match=said):
        raise AssertionError(chosen.unsure)


def test_two_faces_that_match_nearly_alike_are_told() -> None:
    alike = torch.nn.functional.normalize(ANNA + 0.2 * BERT, dim=0)
    how = InstanceChoice("face", references=ANNA[None])
    chosen, _ = choose(Detections(tuple(CROWD)), how, [face(0, ANNA), face(120, alike)], SIZE)
    assert chosen.instances[0] is CROWD[0]
    assert chosen.unsure == "two faces match nearly alike (cosine 1.00 and 0.98)"


def test_what_a_choice_lacks_is_told() -> None:
    with pytest.raises(ValueError, match="needs a point"):
        InstanceChoice("nearest")
    with pytest.raises(ValueError, match="shares of width and height"):
        InstanceChoice("nearest", point=(300.0, 0.5))
    with pytest.raises(ValueError, match="at least one reference face"):
        InstanceChoice("face", references=torch.zeros(0, 8))
    with pytest.raises(ValueError, match="a cosine lies"):
        InstanceChoice("face", references=ANNA[None], threshold=35.0)
    how = InstanceChoice("face", references=ANNA[None])
    for faces in (None, [face(0, None)]):
        with pytest.raises(ValueError, match="insightface"):
            choose(Detections(tuple(CROWD)), how, faces, SIZE)
    with pytest.raises(ValueError, match="8 numbers and the faces 4"):
        choose(Detections(tuple(CROWD)), how, [face(0, torch.ones(4))], SIZE)


@given(
    st.lists(st.tuples(st.integers(0, 120), st.integers(12, 40)), max_size=4),
    st.sampled_from(["all", "largest", "nearest"]),
    st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
def test_nothing_is_lost_and_at_most_one_person_is_kept(
    places: list[tuple[int, int]], kind: str, point: tuple[float, float]
) -> None:
    people = [part for number, it in enumerate(places) for part in person(*it, number=number)]
    found = kept(people, InstanceChoice(kind, point=point))
    if kind == "all":
        assert len(found) == len(people)
    elif people:
        assert len({people[at].person for at in found}) == 1
        assert len(found) == 3


Frame = tuple[list[Tracked], list[Face] | None]


def clip(frames: int, looked: Sequence[int], who: torch.Tensor = ANNA) -> Iterator[Frame]:
    """Anna walks to the right past Bert, in tracks 1 to 3 and 4 to 6, with a ball, 7."""
    for frame in range(frames):
        left = frame * 100 // frames
        parts = [*person(left), *person(120, wide=38), thing(60)]
        tracks = [Tracked(number, part) for number, part in enumerate(parts, 1)]
        yield tracks, [face(left, who), face(120, BERT, wide=38)] if frame in looked else None


def test_a_clip_keeps_the_tracks_of_the_reference_face() -> None:
    how = InstanceChoice("face", references=ANNA[None])
    found = choose_tracks(clip(12, looked=(0, 4, 8)), how, SIZE)
    assert found.kept == {1, 2, 3, 7}
    assert found.others == {4, 5, 6}
    assert found.unsure == ""


def test_frames_in_which_nobody_is_recognised_have_no_say_on_people() -> None:
    frames = [*clip(6, looked=range(6), who=CARL), *clip(6, looked=(0,))]
    found = choose_tracks(frames, InstanceChoice("face", references=ANNA[None]), SIZE)
    assert found.kept == {1, 2, 3, 7}
    assert found.unsure == "6 of 7 frames did not show for sure who is meant"


def test_a_clip_without_the_reference_keeps_nobody() -> None:
    found = choose_tracks(
        clip(6, range(6), who=CARL), InstanceChoice("face", references=ANNA[None]), SIZE
    )
    assert found.kept == {7}
    assert found.unsure == "6 of 6 frames did not show for sure who is meant"


def test_a_clip_keeps_what_most_frames_choose_and_tells_a_narrow_vote() -> None:
    def growing() -> Iterator[Frame]:
        for frame in range(10):
            wide = 30 if frame < 6 else 60
            parts = [*person(0, wide=wide), *person(100, wide=45)]
            yield [Tracked(number, part) for number, part in enumerate(parts, 1)], None

    found = choose_tracks(growing(), InstanceChoice("largest"), SIZE)
    assert found.kept == {4, 5, 6}
    assert "track 4 was chosen in 6 of 10 frames only" in found.unsure


def test_numbers_of_people_do_not_link_frames() -> None:
    stale = [
        Tracked(number, Instance(part.region, part.mask, person=0))
        for number, part in enumerate([*person(0), *person(100, wide=45)], 1)
    ]
    assert choose_tracks([(stale, None)], InstanceChoice("largest"), SIZE).kept == {4, 5, 6}


def test_an_empty_clip_keeps_nothing() -> None:
    assert choose_tracks([], InstanceChoice("largest"), SIZE).kept == frozenset()

"""What every mask backend promises, whichever it is."""

import pkgutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.maskgen.tiny import BUILDS

from frisket.maskgen import backends, base
from frisket.maskgen.base import (
    BACKENDS,
    CONTRACTS,
    Backend,
    BackendUnusable,
    Box,
    Licence,
    MaskWeightsNotFound,
    ModelSource,
    Seed,
)
from frisket.media.frames import decode

PHOTOS = Path(__file__).parents[2] / "examples" / "photos" / "clips"


@pytest.fixture(scope="module")
def pictures():
    """A photograph and an odd-sized drawing."""
    photo = decode(PHOTOS / "astronaut.jpg")[0][::2, ::2].contiguous()
    noise = np.random.default_rng(0).integers(0, 255, (61, 83, 3), dtype=np.uint8)
    return [photo, torch.from_numpy(noise)]


@pytest.fixture(scope="module", params=BACKENDS.names())
def named(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def backend(named) -> Backend:
    return BACKENDS.load(named)


@pytest.fixture(scope="module")
def loaded(named, backend, tmp_path_factory) -> Any:
    """The backend on its tiny random build, through the real loading path."""
    if backend.extra:
        pytest.importorskip("onnxruntime")
        pytest.importorskip("onnx")
    if not backend.weights:
        return backend.load(ModelSource())
    build = backend.tiny or BUILDS.get(named)
    if build is None:
        pytest.skip("a plugin's backend without a tiny build (Backend.tiny)")
    return backend.load(ModelSource(path=str(build(tmp_path_factory.mktemp(named) / "weights"))))


def test_every_backend_of_ours_with_weights_has_a_tiny_build():
    own = [module.name for module in pkgutil.iter_modules(backends.__path__)]
    assert {name for name in own if BACKENDS.load(name).weights} == set(BUILDS)


def test_a_plugin_needs_no_build_and_one_that_has_it_has_weights():
    plain = {"summary": "mine", "roles": frozenset({"drafter"}), "licence": Licence("MIT", "MIT")}
    assert not Backend(**plain, load=ModelSource).weights
    assert Backend(**plain, load=ModelSource, weights=True).tiny is None
    assert Backend(**plain, load=ModelSource, tiny=BUILDS["sam2"]).weights


def test_a_plugin_may_use_the_names_of_earlier_versions():
    for earlier, name in base.EARLIER_NAMES.items():
        assert getattr(base, earlier) is getattr(base, name)
    with pytest.raises(ImportError):
        from frisket.maskgen.base import Nothing  # noqa: F401


def test_it_says_what_it_is_and_under_which_licence(backend):
    assert backend.summary
    assert backend.roles <= set(CONTRACTS)
    assert backend.roles
    assert backend.licence.code
    assert backend.licence.weights
    assert backend.repo or not backend.weights or backend.extra


def test_it_fulfils_the_contract_of_each_of_its_roles(backend, loaded):
    for role in backend.roles:
        assert isinstance(loaded, CONTRACTS[role]), role


def test_its_thresholds_can_be_set(backend, loaded):
    for name, value in (backend.thresholds or {}).items():
        assert getattr(loaded, name) == value
        setattr(loaded, name, value)


def test_a_folder_without_its_weights_is_named(backend, tmp_path):
    if not backend.weights:
        pytest.skip("it has no weights")
    empty = tmp_path / "nothing here"
    empty.mkdir()
    with pytest.raises(MaskWeightsNotFound, match="nothing here"):
        backend.load(ModelSource(path=str(empty)))
    with pytest.raises(MaskWeightsNotFound, match="nowhere"):
        backend.load(ModelSource(path=str(tmp_path / "nowhere")))


def point_at(loaded, picture):
    """Candidates for a click; none of a SAM 3 that holds no tracker, which says so."""
    try:
        embedding = loaded.encode_picture(picture)
    except BackendUnusable as error:
        if "no tracker" not in str(error):
            raise
        return []
    assert embedding.bytes >= 0
    with pytest.raises(ValueError, match="click"):
        loaded.segment_points(embedding, picture, [], None)
    segments = loaded.segment_points(embedding, picture, [(20.0, 20.0, True)], None)
    assert 1 <= len(segments) <= 3
    scores = [segment.score for segment in segments]
    assert scores == sorted(scores, reverse=True)
    return segments


def fine_mask(mask, picture) -> None:
    assert mask.shape == picture.shape[:2]
    assert mask.dtype == torch.float32
    assert mask.device.type == "cpu"
    assert 0 <= float(mask.min()) <= float(mask.max()) <= 1


def fine_box(box: Box, picture) -> None:
    high, wide, _ = picture.shape
    assert 0 <= box.left < box.right <= wide
    assert 0 <= box.top < box.bottom <= high
    assert box.score is None or 0 <= box.score <= 1


def test_pictures_of_any_size_are_answered_in_order_and_alike_twice(backend, loaded, pictures):
    asked = [["face", "hair"], ["hair"]]
    boxes = [[Box(5.0, 6.0, 60.0, 50.0), Box(1.0, 2.0, 30.0, 40.0)], [Box(10.0, 10.0, 50.0, 40.0)]]
    calls = {
        "detector": lambda: loaded.detect(pictures, asked),
        "faces": lambda: loaded.faces(pictures),
        "segmenter": lambda: loaded.segment(pictures, boxes),
        "pointer": lambda: [point_at(loaded, picture) for picture in pictures],
        "grounder": lambda: loaded.ground(pictures, asked),
        "parser": lambda: loaded.parse(pictures),
        "drafter": lambda: loaded.draft(pictures),
        "captioner": lambda: loaded.caption(pictures),
    }
    for role in backend.roles & set(calls):
        answers = calls[role]()
        assert len(answers) == len(pictures)
        assert repr(answers) == repr(calls[role]())
        for index, (picture, answer) in enumerate(zip(pictures, answers, strict=True)):
            check(role, loaded, picture, answer, asked[index], boxes[index])


def check(role, loaded, picture, answer, asked, boxes) -> None:
    if role == "segmenter":
        assert len(answer) == len(boxes)
    if role == "parser":
        assert answer.shape == (len(loaded.classes), *picture.shape[:2])
        assert torch.allclose(answer.sum(0), torch.ones(picture.shape[:2]), atol=1e-4)
    elif role == "captioner":
        assert isinstance(answer, str)
    elif role == "drafter":
        for one in answer.instances:
            assert one.region in loaded.regions
            fine_mask(one.mask, picture)
    else:
        CHECKS[role](picture, answer, asked)


def fine_boxes(picture, answer, asked) -> None:
    for box in answer:
        fine_box(box, picture)
        assert box.phrase in asked


def fine_faces(picture, answer, asked) -> None:
    for face in answer:
        fine_box(face.box, picture)
        if face.embedding is not None:
            assert float(face.embedding.norm()) == pytest.approx(1, abs=1e-4)
    areas = [face.box.area for face in answer]
    assert areas == sorted(areas, reverse=True)


def fine_segments(picture, answer, asked) -> None:
    for segment in answer:
        fine_mask(segment.mask, picture)
        assert segment.phrase in asked or not segment.phrase


CHECKS = {
    "pointer": fine_segments,
    "detector": fine_boxes,
    "faces": fine_faces,
    "segmenter": fine_segments,
    "grounder": fine_segments,
}


def test_nothing_asked_is_nothing_found(backend, loaded, pictures):
    if "detector" in backend.roles:
        assert loaded.detect(pictures, [[], []]) == [[], []]
    if "grounder" in backend.roles:
        assert loaded.ground(pictures, [[], []]) == [[], []]
    if "segmenter" in backend.roles:
        assert loaded.segment(pictures, [[], []]) == [[], []]


def test_videos_keep_their_frames_and_numbers(backend, loaded, pictures):
    frames = torch.stack([pictures[0].roll(4 * at, 1) for at in range(4)])
    if "tracker" in backend.roles:
        seeds = [
            Seed(7, 1, box=Box(20.0, 20.0, 120.0, 140.0)),
            Seed(3, 1, box=Box(10.0, 10.0, 60.0, 60.0)),
        ]
        for reverse in (False, True):
            tracks = loaded.track(frames, seeds, reverse=reverse)
            assert set(tracks) == {3, 7}
            for plane in tracks.values():
                assert plane.shape == frames.shape[:3]
                assert 0 <= float(plane.min()) <= float(plane.max()) <= 1
                untouched = plane[2:] if reverse else plane[:1]
                assert not untouched.any()
    if "follower" in backend.roles:
        for track in loaded.follow(frames, ["face", "hair"]):
            assert track.plane.shape == frames.shape[:3]
            assert track.phrase in ("face", "hair")

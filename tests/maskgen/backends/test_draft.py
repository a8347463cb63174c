"""The draft finds the people of real photographs, and nobody where there is nobody."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from frisket.data.background_swap import composite, draw
from frisket.evaluation.mask_metrics import iou
from frisket.maskgen.base import BACKENDS, CONTRACTS, Box, Detections, ModelSource
from frisket.pocket.world import draw as draw_scene
from frisket.pocket.world import draw_background, random_background, random_scene

PHOTOS = Path(__file__).parents[3] / "examples" / "photos"
LEVELS = {"face": 255, "body": 128, "hair": 80}
ASTRONAUT_FACE = Box(177.0, 66.0, 272.0, 161.0)


def photo(name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """A photograph and the grey levels of its hand mask."""
    picture = cv2.imread(str(PHOTOS / "clips" / f"{name}.jpg"))
    mask = cv2.imread(str(PHOTOS / "masks" / f"{name}.png"), cv2.IMREAD_GRAYSCALE)
    rgb = cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
    return torch.from_numpy(rgb), torch.from_numpy(mask)


@pytest.fixture(scope="module")
def draft():
    return BACKENDS.load("draft").load(ModelSource())


@pytest.fixture(scope="module")
def astronaut() -> tuple[torch.Tensor, torch.Tensor]:
    return photo("astronaut")


@pytest.fixture(scope="module")
def seen(draft, astronaut) -> Detections:
    return draft.draft([astronaut[0]])[0]


def plane(seen: Detections, *regions: str, person: int | None = None) -> torch.Tensor:
    """What is at least half of these regions."""
    masks = [
        each.mask
        for each in seen.instances
        if each.region in regions and person in (None, each.person)
    ]
    return torch.stack(masks).sum(0) >= 0.5


def scores(seen: Detections, mask: torch.Tensor) -> dict[str, float]:
    found = {region: iou(plane(seen, region), mask == level) for region, level in LEVELS.items()}
    return found | {"person": iou(plane(seen, *LEVELS), mask > 0)}


def test_fulfils_the_contract_of_its_roles(draft):
    backend = BACKENDS.load("draft")
    assert backend.roles == {"drafter", "faces", "pointer"}
    assert all(isinstance(draft, CONTRACTS[role]) for role in backend.roles)
    assert backend.regions == draft.regions


def test_the_astronaut(seen, astronaut):
    score = scores(seen, astronaut[1])
    assert not seen.unsure
    assert score["face"] >= 0.80
    assert score["hair"] >= 0.85
    assert score["body"] >= 0.85
    assert score["person"] >= 0.90


def test_the_astronauts_face_box(draft, astronaut):
    (faces,) = draft.faces([astronaut[0]])
    assert len(faces) == 1
    assert faces[0].box.overlap(ASTRONAUT_FACE) >= 0.9
    assert faces[0].keypoints is None


def test_grace_hopper(draft):
    picture, mask = photo("grace-hopper")
    score = scores(draft.draft([picture])[0], mask)
    assert score["face"] >= 0.70
    assert score["person"] >= 0.85


def test_masks_are_disjoint_probabilities_at_the_pictures_size(seen, astronaut):
    masks = torch.stack([each.mask for each in seen.instances])
    assert masks.shape[1:] == astronaut[1].shape
    assert masks.dtype == torch.float32
    assert masks.min() >= 0
    assert masks.sum(0).max() <= 1 + 1e-5
    assert {each.person for each in seen.instances} == {1}
    assert all(each.score is not None and 0 < each.score <= 1 for each in seen.instances)


def test_the_same_every_time(draft, seen, astronaut):
    cv2.setRNGSeed(99)
    again = draft.draft([astronaut[0]])[0]
    for one, other in zip(seen.instances, again.instances, strict=True):
        assert torch.equal(one.mask, other.mask)
        assert one.score == other.score


def grounds(height: int, width: int) -> dict[str, np.ndarray]:
    pattern = draw_background(random_background(np.random.RandomState(3)), max(height, width))
    rng = np.random.default_rng(2)
    return {
        "gradient": draw("gradient", rng, height, width)[0].numpy(),
        "noise": draw("noise", rng, height, width)[0].numpy(),
        "pattern": pattern[:height, :width],
    }


@pytest.mark.parametrize("ground", ["gradient", "noise", "pattern"])
@pytest.mark.parametrize("name", ["astronaut", "grace-hopper"])
def test_people_before_another_background(draft, name, ground):
    picture, mask = photo(name)
    behind = torch.from_numpy(grounds(*mask.shape)[ground])
    made = composite(picture[None], (mask > 0).float()[None], behind[None], feather=1.0)[0]
    assert scores(draft.draft([made])[0], mask)["person"] >= 0.9


@pytest.mark.parametrize("change", ["mirrored", "grey", "dark", "half", "double", "tiny"])
def test_a_picture_changed_is_still_the_person(draft, astronaut, change):
    picture, mask = astronaut
    if change == "mirrored":
        picture, mask = picture.flip(1), mask.flip(1)
    elif change == "grey":
        picture = picture.float().mean(-1, keepdim=True).expand(-1, -1, 3).to(torch.uint8)
    elif change == "dark":
        picture = (picture * 0.2).to(torch.uint8)
    else:
        size = {"half": 256, "double": 1024, "tiny": 64}[change]
        method = cv2.INTER_AREA if size < 512 else cv2.INTER_LINEAR
        scaled = cv2.resize(picture.numpy(), (size, size), interpolation=method)
        picture = torch.from_numpy(scaled)
        near = cv2.resize(mask.numpy(), (size, size), interpolation=cv2.INTER_NEAREST)
        mask = torch.from_numpy(near)
    score = scores(draft.draft([picture.contiguous()])[0], mask)
    assert score["face"] >= 0.70
    assert score["person"] >= (0.8 if change == "tiny" else 0.85)


def test_a_close_up_is_a_face_and_perhaps_hair(draft, astronaut):
    picture, mask = (each[55:185, 160:290].contiguous() for each in astronaut)
    found = draft.draft([picture])[0]
    assert iou(plane(found, "face"), mask == 255) >= 0.70


def test_two_people_are_two_and_share_no_pixel(draft, astronaut):
    other, other_mask = photo("grace-hopper")
    picture = torch.cat([astronaut[0], other], dim=1)
    found = draft.draft([picture])[0]
    assert {each.person for each in found.instances} == {1, 2}
    assert torch.stack([each.mask for each in found.instances]).sum(0).max() <= 1 + 1e-5
    width = astronaut[0].shape[1]
    nearer = plane(found, *LEVELS, person=1)  # the larger face comes first
    farther = plane(found, *LEVELS, person=2)
    assert iou(nearer[:, width:], other_mask > 0) >= 0.8
    assert iou(farther[:, :width], astronaut[1] > 0) >= 0.8


def test_a_head_on_a_wall_gets_no_body(draft, astronaut):
    picture, mask = astronaut
    head = (mask == 255) | (mask == 80)
    wall = torch.full_like(picture, 128)
    found = draft.draft([composite(picture[None], head.float()[None], wall[None])[0]])[0]
    assert [each.region for each in found.instances] == ["face"]
    assert found.instances[0].score < 0.6
    assert "only the face" in found.unsure
    assert iou(plane(found, "face"), mask == 255) >= 0.70


def nobody() -> dict[str, np.ndarray]:
    rng, world = np.random.default_rng(5), np.random.RandomState(1)
    rows = np.linspace(0, 1, 384)[:, None, None]
    hills = (np.sin(np.arange(512) / 60) * 30 + 250)[None, :, None]
    sky = np.array([120, 170, 230]) * (1 - rows) + np.array([240, 220, 200]) * rows
    land = np.where(np.arange(384)[:, None, None] > hills, np.array([70, 110, 50]), sky)
    stripes = np.where((np.arange(300) // 20 % 2)[:, None, None], 230, np.array([180, 30, 40]))
    drawn = {
        "landscape": (land + rng.normal(0, 6, land.shape)).clip(0, 255).astype(np.uint8),
        "stripes": np.broadcast_to(stripes, (300, 400, 3)).astype(np.uint8),
        "black": np.zeros((64, 64, 3), np.uint8),
        "narrow": np.full((20, 400, 3), 200, np.uint8),
        "pixel": np.full((1, 1, 3), 200, np.uint8),
    }
    for kind in ("flat", "gradient", "noise"):
        drawn[kind] = draw(kind, rng, 512, 512)[0].numpy()
    for size in (32, 128, 512):
        drawn[f"pocket {size}"] = draw_scene(random_scene(world), size)[0]
    return drawn


@pytest.mark.parametrize("name", nobody())
def test_nobody_is_invented(draft, name):
    (found,) = draft.draft([torch.from_numpy(nobody()[name].copy())])
    assert not found.instances
    assert "no face" in found.unsure


def test_a_photograph_without_its_person_has_none(draft, astronaut):
    picture, mask = astronaut
    rest = composite(picture[None], (mask == 0).float()[None], torch.full_like(picture, 90)[None])
    assert not draft.draft([rest[0]])[0].instances

"""Every kind on the shelf draws a clip as the contract says; those of numbers as their formulas."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from frisket.control.base import (
    KINDS,
    ControlModelNotFound,
    Drawer,
    DrawRequest,
    KindUnusable,
    load_drawer,
)
from frisket.control.person_boxes import build_tiny_detector, load_people
from frisket.losses.structure import average_colours, blur_luminance, find_edges
from frisket.registry import UnknownPlugin


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> dict[str, str]:
    """A small random model of every kind that draws by one."""
    built: dict[str, str] = {}
    for name in KINDS.names():
        tiny = KINDS.load(name).tiny
        if tiny is not None:
            built[name] = str(tiny(tmp_path_factory.mktemp(name)))
    return built


def make_clip(frames: int = 3, height: int = 40, width: int = 56) -> torch.Tensor:
    dice = torch.Generator().manual_seed(1)
    coarse = torch.randint(0, 256, (frames, 3, 5, 7), generator=dice, dtype=torch.uint8)
    large = torch.nn.functional.interpolate(coarse, (height, width), mode="nearest")
    return large.permute(0, 2, 3, 1).contiguous()


def draw(name: str, sources: dict[str, str], clip: torch.Tensor) -> torch.Tensor:
    drawer = load_drawer(name, DrawRequest(source=sources.get(name, "")))
    assert isinstance(drawer, Drawer)
    return torch.stack(list(drawer.draw(iter(clip))))


@pytest.mark.parametrize("name", KINDS.names())
def test_every_kind_draws_each_frame_at_its_size_and_again_alike(name, sources) -> None:
    clip = make_clip()
    before = clip.clone()
    pictures = draw(name, sources, clip)
    assert (pictures.shape, pictures.dtype) == (clip.shape, torch.uint8)
    assert torch.equal(clip, before)
    assert torch.equal(draw(name, sources, clip), pictures)
    assert list(load_drawer(name, DrawRequest(source=sources.get(name, ""))).draw([])) == []


@pytest.mark.parametrize("name", KINDS.names())
def test_every_kind_says_what_it_needs_and_refuses_the_rest(name, sources) -> None:
    kind = KINDS.load(name)
    assert kind.summary
    assert kind.licence.code
    assert bool(kind.files) == bool(kind.published) == (kind.tiny is not None)
    with pytest.raises(KindUnusable, match=f"--kind {name} has no option 'sharpnes'"):
        load_drawer(name, DrawRequest({"sharpnes": 1.0}, sources.get(name, "")))
    other = DrawRequest(source="" if kind.files else "somewhere")
    with pytest.raises(KindUnusable, match=f"--kind {name} (draws by a model|needs no weights)"):
        load_drawer(name, other)


def test_an_unknown_kind_is_named_with_the_nearest() -> None:
    with pytest.raises(UnknownPlugin, match=r"'cany'.*did you mean 'canny'"):
        load_drawer("cany", DrawRequest())


def test_canny_is_cv2_on_the_colour_picture() -> None:
    """As ControlNet's annotator: cv2.Canny(picture, low, high)."""
    clip = make_clip()
    pictures = draw("canny", {}, clip)
    for frame, picture in zip(clip, pictures, strict=True):
        edges = cv2.Canny(frame.numpy(), 100, 200)
        assert np.array_equal(picture.numpy(), np.repeat(edges[..., None], 3, 2))
    with pytest.raises(KindUnusable, match="low = 300 and high = 200"):
        load_drawer("canny", DrawRequest({"low": 300.0}))


def test_edges_light_and_colours_are_those_of_the_loss() -> None:
    clip = make_clip()
    planes = clip.permute(3, 0, 1, 2)[None].float() / 255
    functions = {"edges": find_edges, "luma": blur_luminance, "colours": average_colours}
    for name, extract in functions.items():
        wanted = (extract(planes)[0].clamp(0, 1) * 255).round().expand(3, -1, -1, -1)
        got = draw(name, {}, clip).permute(3, 0, 1, 2).float()
        assert torch.equal(got, wanted)


def test_lines_lie_on_the_dark_side_of_a_border_and_nowhere_else() -> None:
    frame = torch.full((64, 64, 3), 40, dtype=torch.uint8)
    frame[:, 32:] = 200
    lines = draw("lineart", {}, frame[None])[0, ..., 0]
    assert int(lines[:, 31].min()) > 100
    assert int(lines[:, :28].max()) == int(lines[:, 33:].max()) == 0
    flat = torch.full((1, 64, 64, 3), 128, dtype=torch.uint8)
    assert not draw("lineart", {}, flat).any()


def test_options_out_of_range_are_refused(sources) -> None:
    for name, option, value in (
        ("lineart", "width", 0.0),
        ("luma", "blur", 0.7),
        ("colours", "blocks", 0.0),
        ("pose", "sure", 1.0),
    ):
        with pytest.raises(KindUnusable, match=name):
            load_drawer(name, DrawRequest({option: value}, sources.get(name, "")))


@pytest.mark.parametrize("name", ["depth", "pose"])
def test_what_is_no_model_of_the_kind_is_refused(name, sources, tmp_path: Path) -> None:
    other = "pose" if name == "depth" else "depth"
    with pytest.raises(ControlModelNotFound, match="holds a model of type"):
        load_drawer(name, DrawRequest(source=sources[other]))
    with pytest.raises(ControlModelNotFound, match="there is no such folder"):
        load_drawer(name, DrawRequest(source=str(tmp_path / "nowhere")))
    KINDS.load(name).tiny(tmp_path / "cut")
    weights = tmp_path / "cut" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(ControlModelNotFound, match="does not load"):
        load_drawer(name, DrawRequest(source=str(tmp_path / "cut")))
    weights.unlink()
    (tmp_path / "cut" / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(ControlModelNotFound, match="does not load"):
        load_drawer(name, DrawRequest(source=str(tmp_path / "cut")))


def test_other_weights_have_another_fingerprint(sources, tmp_path: Path) -> None:
    first = load_drawer("depth", DrawRequest(source=sources["depth"])).fingerprint
    KINDS.load("depth").tiny(tmp_path / "same")
    assert load_drawer("depth", DrawRequest(source=str(tmp_path / "same"))).fingerprint == first
    config = tmp_path / "same" / "preprocessor_config.json"
    config.write_text(config.read_text().replace("14", "28"))
    assert load_drawer("depth", DrawRequest(source=str(tmp_path / "same"))).fingerprint != first


def test_a_pose_is_drawn_for_each_person_detected(sources, tmp_path: Path) -> None:
    detector = str(build_tiny_detector(tmp_path / "detector"))
    clip = make_clip()
    options = {"sure": 0.0, "person": 0.0}
    whole = load_drawer("pose", DrawRequest(options, sources["pose"]))
    people = load_drawer("pose", DrawRequest(options, sources["pose"], detector=detector))
    pictures = [torch.stack(list(drawer.draw(iter(clip)))) for drawer in (whole, people)]
    assert pictures[0].shape == pictures[1].shape == clip.shape
    assert not torch.equal(*pictures)
    assert whole.fingerprint != people.fingerprint
    certain = {**options, "person": 0.999}
    nobody = load_drawer("pose", DrawRequest(certain, sources["pose"], detector=detector))
    assert not torch.stack(list(nobody.draw(iter(clip)))).any()


def test_boxes_of_people_are_those_of_the_stock_processor(tmp_path: Path) -> None:
    detector = load_people(build_tiny_detector(tmp_path / "detector"), "cpu")
    frame = make_clip(1)[0]
    inputs = detector.processor(images=frame.numpy(), return_tensors="pt")
    answer = detector.model(pixel_values=inputs["pixel_values"])
    boxes = answer.pred_boxes[0]  # middle, width and height in shares of the frame
    scores = answer.logits.softmax(-1)[0, :, :-1]
    own = boxes[scores.argmax(-1) == detector.label] * torch.tensor([56.0, 40.0, 56.0, 40.0])
    wanted = sorted(
        ([x - w / 2, y - h / 2, w, h] for x, y, w, h in own.tolist()),
        key=lambda box: -box[2] * box[3],
    )
    for box, other in zip(detector.find(frame, 0.0), wanted, strict=True):
        assert list(box) == pytest.approx(other, abs=1e-4)


def test_a_detector_that_knows_no_people_is_refused(sources, tmp_path: Path) -> None:
    folder = build_tiny_detector(tmp_path / "cats")
    config = folder / "config.json"
    config.write_text(config.read_text().replace("person", "dog"))
    with pytest.raises(ControlModelNotFound, match="detects dog, cat and no 'person'"):
        load_drawer("pose", DrawRequest(source=sources["pose"], detector=str(folder)))
    with pytest.raises(KindUnusable, match="--kind luma looks at the whole frame"):
        load_drawer("luma", DrawRequest(detector=str(folder)))

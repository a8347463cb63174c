"""InstantID as a user names it: nothing is the bare model, its halves turn and confine together."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.inference.freefuse.test_families import count_hooks
from tests.inference.plugins.instantid import scene
from torch import Tensor

from frisket.adapters import lora
from frisket.adapters.image.instantid import InstantIdModules
from frisket.faces.base import EmbeddingMixup
from frisket.families.base import FAMILIES
from frisket.inference.generate import clips, embed
from frisket.inference.methods.identity.decoupled import DecoupledGuidance
from frisket.inference.methods.identity.guidance import GuidanceStrength
from frisket.inference.methods.identity.image_attention import RowOwners
from frisket.inference.methods.identity.instantid.control import FaceControl, ResidualSource
from frisket.inference.methods.identity.instantid.loading import place_modules, share_modules
from frisket.inference.methods.identity.instantid.method import (
    InstantIdMethod,
    InstantIdStrength,
    average_faces,
)
from frisket.inference.methods.identity.residuals import add_residuals
from frisket.inference.methods.plugin import METHODS, MethodRequest, MethodUnusable
from frisket.inference.sample_specs import SampleSpec, build_spec

PLUGIN = METHODS.load("instantid")
QUICK: dict[str, Any] = {"height": 32, "width": 64, "steps": 2}
GRID = (1, 4, 8)  # cells of that


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scene.save_modules(tmp_path_factory.mktemp("instantid") / "files")


def lay_masks(left: int, right: int) -> dict[tuple[int, int, int], Tensor]:
    mask = torch.full((1, 1, *GRID), float(left))
    mask[..., GRID[2] // 2 :] = right
    return {(1, QUICK["height"], QUICK["width"]): mask}


def build_method(folder: Path, **request: Any) -> InstantIdMethod:
    method = scene.build_method(folder, **request)
    assert isinstance(method, InstantIdMethod)
    return method


def call_unet(text: str = "a fox") -> dict[str, Any]:
    """Two rows at one noise level, as a pipeline asks about them."""
    return {
        "sample": scene.draw("noisy", (2, 4, *GRID[1:])),
        "timestep": torch.tensor(500),
        "encoder_hidden_states": scene.draw(text, (2, 77, 32)),
        "added_cond_kwargs": {
            "text_embeds": scene.draw("pooled", (2, 16)),
            "time_ids": torch.tensor([[32.0, 64, 0, 0, 32, 64]]).expand(2, -1),
        },
    }


def make_source(**options: Any) -> ResidualSource:
    tokens, negative = (scene.draw(name, (1, 16, 32)) for name in ("tokens", "negative"))
    picture = scene.draw("picture", (1, 3, QUICK["height"], QUICK["width"])).abs().clamp(max=1)
    control = replace(FaceControl(tokens, negative, picture), **options)
    owners = RowOwners(torch.tensor([0, 0]), (False, True))
    return ResidualSource(scene.build_modules().identity_net, control, lambda _: owners)


@torch.no_grad()
def test_the_face_reaches_identity_net_and_the_prompt_does_not() -> None:
    source = make_source()
    residuals = source.compute(call_unet())
    reworded = source.compute(call_unet("two boats"))
    other = make_source(tokens=scene.draw("another", (1, 16, 32))).compute(call_unet())
    moved = make_source(picture=torch.zeros(1, 3, 32, 64)).compute(call_unet())
    assert residuals is not None
    assert reworded is not None
    assert other is not None
    assert moved is not None
    assert len(residuals.down) == 9
    for index, one in enumerate((*residuals.down, residuals.middle)):
        assert torch.equal(one, (*reworded.down, reworded.middle)[index])
        changed = (*other.down, other.middle)[index]
        assert torch.equal(one[0], changed[0])  # the negative's row has the negative's tokens
        assert index < 4 or not torch.equal(one[1], changed[1])  # the first block has no attention
        assert not torch.equal(one, (*moved.down, moved.middle)[index])
    unet: Any = scene.build_parts().denoiser
    with add_residuals(unet, source.compute):
        told = unet(**call_unet()).sample
        assert not torch.equal(told, unet(**call_unet("two boats")).sample)


@torch.no_grad()
def test_a_mask_confines_residuals_at_every_size_and_rows_have_their_own() -> None:
    mask = torch.ones(2, *GRID)
    mask[0, ..., : GRID[2] // 2] = 0
    mask[1] = 0
    owners = RowOwners(torch.tensor([0, 1]), (True, True))
    whole, masked = make_source(), make_source(mask=mask)
    whole.find_owners = masked.find_owners = lambda _: owners
    residuals, confined = (source.compute(call_unet()) for source in (whole, masked))
    assert residuals is not None
    assert confined is not None
    sizes = set()
    for one, part in zip(
        (*residuals.down, residuals.middle), (*confined.down, confined.middle), strict=True
    ):
        half = one.shape[-1] // 2
        sizes.add(tuple(one.shape[-2:]))
        assert not part[0, ..., :half].any()
        assert torch.equal(part[0, ..., half:], one[0, ..., half:])
        assert not part[1].any()
    assert sizes == {(4, 8), (2, 4), (1, 2)}
    assert make_source(mask=0 * mask).compute(call_unet()) is None


@torch.no_grad()
def test_residuals_of_several_add_up_and_the_unet_is_itself_again() -> None:
    unet: Any = scene.build_parts().denoiser
    first, second = make_source(), make_source(scale=0.5)
    bare = unet(**call_unet()).sample
    with add_residuals(unet, first.compute), add_residuals(unet, second.compute):
        both = unet(**call_unet()).sample
    with add_residuals(unet, make_source(scale=1.5).compute):
        once = unet(**call_unet()).sample
    torch.testing.assert_close(both, once, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(both, bare, atol=1e-2)
    with pytest.raises(RuntimeError, match="stop"), add_residuals(unet, first.compute):
        raise RuntimeError("stop")
    assert "forward" not in vars(unet)
    assert torch.equal(unet(**call_unet()).sample, bare)
    with (
        add_residuals(unet, first.compute),
        pytest.raises(ValueError, match="T2I-Adapter"),
    ):
        unet(**call_unet(), down_block_additional_residuals=[bare])


def test_nothing_is_the_bare_model_and_it_is_left_bare(folder: Path, tmp_path: Path) -> None:
    unet: Any = scene.build_parts().denoiser
    hooks, processors = count_hooks(unet), dict(unet.attn_processors)
    specs = scene.make_specs(1, **QUICK)
    bare = scene.sample_pictures(specs=specs)
    moved = scene.sample_pictures(build_method(folder), specs)
    assert not torch.allclose(moved, bare, atol=0.01)
    start = InstantIdModules.start_for_model(unet, hidden=scene.HIDDEN)
    start.save(tmp_path / "start")
    only_net = InstantIdStrength(attention=0.0)
    for nothing in (
        build_method(folder, scale=0.0),
        build_method(folder, masks=lay_masks(0, 0)),
        build_method(tmp_path / "start", options=only_net),  # its last convolutions are zero
    ):
        assert torch.equal(scene.sample_pictures(nothing, specs), bare)
    # By guidance 1 there is one side, whose words may be the other's.
    alone = [replace(spec, guidance=1.0, negative=spec.prompt) for spec in specs]
    assert torch.isfinite(scene.sample_pictures(build_method(folder), alone)).all()
    ones = build_method(folder, masks=lay_masks(1, 1))
    torch.testing.assert_close(scene.sample_pictures(ones, specs), moved, rtol=0, atol=1e-6)
    assert torch.equal(scene.sample_pictures(specs=specs), bare)
    assert count_hooks(unet) == hooks
    assert unet.attn_processors == processors
    assert "forward" not in vars(unet)


@torch.no_grad()
def test_strict_leaves_every_prediction_alone_outside(folder: Path) -> None:
    unet: Any = scene.build_parts().denoiser
    method, calls = build_method(folder, masks=lay_masks(0, 1), strict=True), []
    handle = unet.register_forward_hook(lambda *call: calls.append(call), with_kwargs=True)
    scene.sample_pictures(method, scene.make_specs(1, **QUICK))
    handle.remove()
    half = GRID[2] // 2
    assert len(calls) == QUICK["steps"]
    for _, args, kwargs, (prediction,) in calls:
        bare = unet(*args, **kwargs)[0]
        assert torch.equal(prediction[..., :half], bare[..., :half])
        assert not torch.allclose(prediction[..., half:], bare[..., half:], atol=1e-2)


@pytest.mark.parametrize(("scale", "levels", "passes"), [(0.0, 1, 1), (1.0, 0, 1), (1.0, 1, 2)])
def test_strict_costs_a_second_pass_only_where_the_face_acts(
    folder: Path, scale: float, levels: float, passes: int
) -> None:
    unet: Any = scene.build_parts().denoiser
    specs, calls = scene.make_specs(1, **QUICK), list[Any]()
    bare = scene.sample_pictures(specs=specs)
    method = build_method(folder, scale=scale, masks=lay_masks(levels, levels), strict=True)
    handle = unet.conv_in.register_forward_hook(lambda *call: calls.append(call))
    pictures = scene.sample_pictures(method, specs)
    handle.remove()
    assert len(calls) == passes * QUICK["steps"]
    assert torch.equal(pictures, bare) == (passes == 1)


@dataclass
class Composed:
    """Several methods at once."""

    methods: Sequence[Any]

    @contextmanager
    def attach(
        self, pipeline: Any, call: Callable[[], dict[str, Any]], specs: Sequence[SampleSpec]
    ) -> Iterator[None]:
        with ExitStack() as stack:
            for method in self.methods:
                stack.enter_context(method.attach(pipeline, call, specs))
            yield


def test_two_people_have_a_half_each(folder: Path) -> None:
    specs = scene.make_specs(1, **QUICK)
    ada = build_method(folder, masks=lay_masks(1, 0))
    bob = build_method(
        folder, masks=lay_masks(0, 1), references=(scene.make_reference("bob"),), scale=0.7
    )
    nobody = build_method(folder, masks=lay_masks(0, 0))
    pictures = [
        scene.sample_pictures(Composed(methods), specs)
        for methods in ([ada, bob], [bob, ada], [ada, nobody], [ada])
    ]
    torch.testing.assert_close(pictures[0], pictures[1], rtol=0, atol=1e-5)
    assert torch.equal(pictures[2], pictures[3])
    assert not torch.allclose(pictures[0], pictures[3], atol=0.01)


@dataclass
class DecoupledFace:
    """InstantID with FastFace's guidance."""

    method: InstantIdMethod
    first: GuidanceStrength
    second: GuidanceStrength

    @contextmanager
    def attach(
        self, pipeline: Any, call: Callable[[], dict[str, Any]], specs: Sequence[SampleSpec]
    ) -> Iterator[None]:
        attention, source = self.method.make_halves(call(), specs)
        family, unet = scene.load_family(), self.method.unet
        guidance = DecoupledGuidance(family, unet, attention, self.first, self.second)
        with (
            add_residuals(unet, source.compute),
            attention.attach(pipeline, call, specs),
            guidance.attach_guidance(call, specs),
        ):
            yield


def test_guidance_with_passes_of_its_own_turns_both_halves(folder: Path) -> None:
    method, specs = build_method(folder), scene.make_specs(1, **QUICK)
    attention, source = method.make_halves({}, specs)
    source.find_owners = lambda _: RowOwners(torch.tensor([0, 0]), (False, True))
    with torch.no_grad():
        own = source.compute(call_unet())
        with attention.turn("image"):
            on_both = source.compute(call_unet())
        with attention.turn("off"):
            assert source.compute(call_unet()) is None
    assert own is not None
    assert on_both is not None
    assert torch.equal(own.middle[1], on_both.middle[1])
    assert not torch.equal(own.middle[0], on_both.middle[0])
    plain, guidance = scene.sample_pictures(method, specs), GuidanceStrength(scene.GUIDANCE)
    same = scene.sample_pictures(DecoupledFace(method, guidance, guidance), specs)
    torch.testing.assert_close(same, plain, rtol=0, atol=1e-4)
    other = scene.sample_pictures(DecoupledFace(method, GuidanceStrength(1.0), guidance), specs)
    assert not torch.allclose(other, plain, atol=0.01)


def test_a_lora_is_sampled_with_it(folder: Path) -> None:
    unet: Any = scene.build_parts().denoiser
    specs = scene.make_specs(1, **QUICK)
    plain = scene.sample_pictures(build_method(folder), specs)
    lora.attach(unet, lora.LoraSpec(rank=2, targets=("to_q", "to_out.0")), seed=0)
    try:
        for name, value in lora.trainable(unet).items():
            value.data += 0.3 * scene.draw(name, tuple(value.shape))
        alone = scene.sample_pictures(specs=specs)
        both = scene.sample_pictures(build_method(folder), specs)
        assert torch.equal(scene.sample_pictures(build_method(folder, scale=0.0), specs), alone)
    finally:
        lora.detach(unet)
    for other in (plain, alone):
        assert not torch.allclose(both, other, atol=0.01)
    assert torch.equal(scene.sample_pictures(build_method(folder), specs), plain)


@pytest.mark.parametrize(
    ("name", "variant"),
    [("pocket", "image"), ("pocket", "video"), ("stable_diffusion", "sd15")],
)
def test_it_runs_on_every_unet_and_in_half_precision(
    name: str, variant: str, tmp_path: Path
) -> None:
    family = FAMILIES.load(name)
    card, parts = family.variants[variant], family.tiny(variant)
    denoiser, vae = parts.denoiser, parts.vae
    assert denoiser is not None
    assert vae is not None
    modules = InstantIdModules.start_for_model(
        denoiser, spatial=card.grid.spatial, hidden=64, embedding=scene.FACE, tokens=3
    )
    scene.fill_weights(modules, name)
    modules.save(tmp_path / "files")
    frames, side = (1 + card.grid.temporal if card.video else 1), 2 * card.grid.step
    spec = build_spec(card, "a red fox", 3, height=side, width=side, frames=frames, steps=2)
    request = MethodRequest(source=tmp_path / "files", references=(scene.make_reference(),))
    pictures = {}
    for dtype in (torch.float32, torch.bfloat16):
        denoiser.to(dtype)
        vae.to(dtype)
        method = PLUGIN.read(request, family, variant).build(family, parts)
        embeddings = embed(family, variant, parts.text, [spec])
        pictures[dtype] = next(iter(clips(family, parts, embeddings, [spec], method=method)))[1]
    bare = next(iter(clips(family, parts, embeddings, [spec])))[1]
    rough = pictures[torch.bfloat16]
    assert torch.isfinite(rough).all()
    assert (rough - pictures[torch.float32]).abs().mean() < 0.5 * (rough - bare).abs().mean()


def test_people_share_the_files_until_they_are_rounded(folder: Path) -> None:
    first, second = share_modules(folder), share_modules(folder)
    assert first is second
    place_modules(first, torch.zeros((), dtype=torch.bfloat16))
    fresh = share_modules(folder)
    assert fresh is not first
    state = scene.build_modules().state_dict()
    assert all(torch.equal(value, state[name]) for name, value in fresh.state_dict().items())


def test_what_cannot_be_is_refused_before_a_denoiser_is_there(folder: Path) -> None:
    family = scene.load_family()
    for name, variant, runs in (
        ("stable_diffusion", "sdxl", True), ("stable_diffusion", "sdxl-v", True),
        ("pocket", "image", True), ("pocket", "dit", False), ("flux", "dev", False),
    ):  # fmt: skip
        assert (PLUGIN.refuse(FAMILIES.load(name), variant) == "") is runs
    reference = scene.make_reference()
    request = MethodRequest(source=folder, references=(reference,))
    for change, error, words in (
        ({"references": ()}, MethodUnusable, "give one"),
        ({"references": (replace(reference, face=None),)}, MethodUnusable, "ada.jpg.*face"),
        ({"pose": replace(reference, keypoints=None)}, MethodUnusable, "five key points"),
        ({"strict": True}, MethodUnusable, "mask"),
        ({"options": InstantIdStrength(start=0.8, end=0.2)}, MethodUnusable, "0.8"),
        ({"options": "strong"}, MethodUnusable, "str"),
        ({"source": folder.parent}, FileNotFoundError, "InstantX/InstantID"),
        (
            {"references": (scene.make_reference(face=scene.draw_face(width=64)),)},
            EmbeddingMixup,
            "64 numbers.*512",
        ),
    ):
        with pytest.raises(error, match=words):
            PLUGIN.read(replace(request, **change), family, "sdxl")
    with pytest.raises(MethodUnusable, match="no UNet"):
        PLUGIN.read(request, FAMILIES.load("flux"), "dev")


def test_files_of_another_model_are_refused_by_what_differs(folder: Path) -> None:
    family, pocket = scene.load_family(), FAMILIES.load("pocket")
    request = MethodRequest(source=folder, references=(scene.make_reference(),))
    reading = PLUGIN.read(request, family, "sdxl")
    with pytest.raises(MethodUnusable, match="attention layers"):
        reading.build(pocket, pocket.tiny("image"))
    with pytest.raises(MethodUnusable, match="attention layers"):
        reading.build(family, family.tiny("sd15"))
    with pytest.raises(MethodUnusable, match="needs a UNet"):
        reading.build(pocket, pocket.tiny("dit"))
    method = build_method(folder, masks=lay_masks(0, 1))
    with pytest.raises(ValueError, match="no mask was laid"):
        scene.sample_pictures(method, scene.make_specs())


def test_several_pictures_of_a_person_are_one_embedding_of_their_length() -> None:
    faces = [scene.draw_face(name) for name in ("ada", "ada again", "ada once more")]
    assert average_faces(faces[:1]) is faces[0].raw
    mean = average_faces(faces)
    norms = torch.stack([face.raw.norm() for face in faces])
    torch.testing.assert_close(mean.norm(), norms.mean())
    torch.testing.assert_close(average_faces([faces[0]] * 3), faces[0].raw)

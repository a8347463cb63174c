"""What holds for image adapters on any model: nothing is nothing, masks confine, rows are apart."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.inference.freefuse.test_families import count_hooks
from tests.inference.plugins import scene
from torch import Tensor

from frisket.adapters import lora
from frisket.families.base import Family, Parts
from frisket.inference.methods.base import Method
from frisket.inference.sample_specs import SampleSpec


@dataclass(frozen=True)
class Scene:
    """A model, a sample of it, and files for it."""

    family: Family
    parts: Parts
    spec: SampleSpec
    folder: Path
    bare: Tensor

    def build(self, kind: Any, **changes: Any) -> Method:
        path = self.folder / f"ip-adapter-{kind}.bin"
        if not path.exists():
            scene.write_file(
                self.folder,
                scene.build_file(kind, self.family, self.parts.denoiser),
            )
        if not (self.folder / "clip").exists():
            scene.write_encoder(self.folder)
        plugin = "faceid" if kind in scene.FACES else "ip_adapter"
        changes = {"encoder": self.folder / "clip", **changes}
        return scene.build_method(plugin, self.family, self.parts, path, **changes)

    def sample(self, *methods: Method) -> Tensor:
        (clip,) = scene.draw_clips(self.family, self.parts, [self.spec], Together(methods))
        return clip

    def lay_mask(self, left: float, right: float) -> Mapping[tuple[int, int, int], Tensor]:
        """A mask on the latent grid, one number a half."""
        spec = self.spec
        mask = torch.full((1, 1, 1, spec.height // 8, spec.width // 8), float(left))
        mask[..., spec.width // 16 :] = right
        return {(spec.frames, spec.height, spec.width): mask}


@dataclass(frozen=True)
class Together:
    """Several methods at once, as a user composes them."""

    methods: Sequence[Method]

    @contextmanager
    def attach(self, pipeline: Any, call: Any, specs: Any) -> Iterator[None]:
        with ExitStack() as stack:
            for method in self.methods:
                stack.enter_context(method.attach(pipeline, call, specs))
            yield


@pytest.fixture(scope="module")
def unet(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    family, parts = (
        scene.load_family("stable_diffusion"),
        scene.build_parts("stable_diffusion", "sd15"),
    )
    spec = scene.make_spec(family, "sd15", steps=1)
    (bare,) = scene.draw_clips(family, parts, [spec])
    return Scene(family, parts, spec, tmp_path_factory.mktemp("files"), bare)


@contextmanager
def record_first(module: Any) -> Iterator[list[Tensor]]:
    """The outputs of a module, after all hooks that were on it before."""
    outputs: list[Tensor] = []

    def keep(_: Any, __: Any, output: Any) -> None:
        outputs.append(output if isinstance(output, Tensor) else output[0])

    handle = module.register_forward_hook(keep)
    try:
        yield outputs
    finally:
        handle.remove()


@pytest.mark.parametrize("kind", ["faceid", pytest.param("plus", marks=pytest.mark.slow)])
def test_nothing_is_the_bare_model_and_a_method_leaves_no_trace(unet: Scene, kind: str) -> None:
    denoiser: Any = unet.parts.denoiser
    hooks = count_hooks(denoiser)
    weights = {key: value.clone() for key, value in denoiser.state_dict().items()}
    for nothing in ({"scale": 0.0}, {"masks": unet.lay_mask(0, 0)}):
        for strict in (False, "masks" in nothing):
            method = unet.build(kind, strict=strict, **nothing)
            assert torch.equal(unet.sample(method), unet.bare), nothing
    method = unet.build(kind)
    moved = unet.sample(method)
    assert not torch.equal(moved, unet.bare)
    assert torch.equal(unet.sample(method), moved)
    assert torch.equal(unet.sample(), unet.bare)
    assert count_hooks(denoiser) == hooks
    for key, value in denoiser.state_dict().items():
        assert torch.equal(value, weights[key]), key
    ones = {"masks": unet.lay_mask(1, 1)}
    for strict in (False, True):
        torch.testing.assert_close(
            unet.sample(unet.build(kind, strict=strict, **ones)), moved, rtol=0, atol=1e-5
        )


@pytest.mark.parametrize("own", ["attn1", "attn2"])
def test_a_mask_confines_faceid_and_its_lora_at_the_attentions_output(
    unet: Scene, own: str
) -> None:
    block: Any = unet.parts.denoiser.get_submodule("down_blocks.0.attentions.0")  # type: ignore[union-attr]
    attention = block.transformer_blocks[0].get_submodule(own)
    drawn = {}
    for name, options in (
        ("bare", {"scale": 0.0}),
        ("all", {"masks": unet.lay_mask(1, 1)}),
        ("right", {"masks": unet.lay_mask(0, 1)}),
    ):
        with record_first(attention) as outputs:
            unet.sample(unet.build("faceid", **options))
        drawn[name] = outputs[0].unflatten(1, (unet.spec.height // 8, -1))
    half = unet.spec.width // 16
    assert not torch.equal(drawn["all"], drawn["bare"])
    right = drawn["right"][:, :, half:]
    assert not torch.equal(right, drawn["bare"][:, :, half:])
    if own == "attn1":  # what the second is given is the same in its half alone
        assert torch.equal(drawn["right"][:, :, :half], drawn["bare"][:, :, :half])
        torch.testing.assert_close(right, drawn["all"][:, :, half:], rtol=1e-5, atol=1e-6)
    else:
        difference = (drawn["right"] - drawn["bare"])[:, :, :half]
        assert difference.abs().max() == 0


def test_two_people_with_masks_of_their_own_are_strictly_apart(unet: Scene) -> None:
    """In the first step outside both masks nothing changes, and in each what its own does."""
    denoiser: Any = unet.parts.denoiser
    references = [(scene.make_reference(seed),) for seed in (0, 1)]
    masks = [unet.lay_mask(1, 0), unet.lay_mask(0, 1)]
    for mask in (*masks,):
        next(iter(mask.values()))[..., :2, :] = 0  # a strip that is nobody's
    people = [
        unet.build("faceid", masks=mask, strict=True, references=shown)
        for mask, shown in zip(masks, references, strict=True)
    ]

    def predict(*methods: Method) -> Tensor:
        with ExitStack() as stack:
            method = Together(methods)
            outputs: list[list[Tensor]] = []

            @contextmanager
            def attach(pipeline: Any, call: Any, specs: Any) -> Iterator[None]:
                with method.attach(pipeline, call, specs), record_first(denoiser) as kept:
                    outputs.append(kept)
                    yield

            later: Any = type("Later", (), {"attach": staticmethod(attach)})
            stack.enter_context(torch.no_grad())
            scene.draw_clips(unet.family, unet.parts, [unet.spec], later)
        return outputs[0][0]

    bare, both = predict(), predict(*people)
    alone = [predict(person) for person in people]
    half = unet.spec.width // 16
    assert torch.equal(both[..., :2, :], bare[..., :2, :])
    assert torch.equal(both[..., 2:, :half], alone[0][..., 2:, :half])
    assert torch.equal(both[..., 2:, half:], alone[1][..., 2:, half:])
    assert not torch.equal(alone[0], alone[1])


def test_samples_of_a_batch_are_apart(unet: Scene) -> None:
    specs = [unet.spec, replace(unet.spec, seed=9)]
    method = unet.build("faceid", masks=unet.lay_mask(0.3, 1))
    both = scene.draw_clips(unet.family, unet.parts, specs, method)
    for spec, clip in zip(specs, both, strict=True):
        (alone,) = scene.draw_clips(unet.family, unet.parts, [spec], method)
        torch.testing.assert_close(clip, alone, rtol=0, atol=1e-5)


def test_it_goes_with_a_lora_of_the_users(unet: Scene) -> None:
    denoiser = unet.parts.denoiser
    assert denoiser is not None
    method, plain = unet.build("faceid"), unet.sample(unet.build("faceid"))
    spec = lora.LoraSpec(rank=2, targets=unet.family.lora_targets, dead=unet.family.lora_dead)
    lora.attach(denoiser, spec, seed=1)
    try:
        for value in lora.trainable(denoiser).values():
            value.data += 0.2
        tuned = unet.sample()
        method = unet.build("faceid")
        both = unet.sample(method)
        assert not torch.equal(both, tuned)
        assert not torch.equal(both, plain)
        assert torch.equal(unet.sample(), tuned)
        lora.set_strength(denoiser, 0.0)
        assert torch.equal(unet.sample(method), plain)
    finally:
        lora.detach(denoiser)
    assert torch.equal(unet.sample(method), plain)


OURS = [
    ("pocket", "image", "plus"),
    ("wan", "2.1-t2v-1.3b", "base"),
    ("qwen_image", "image", "faceid"),
    ("hunyuan_video", "t2v", "full"),
]


@pytest.mark.parametrize(("name", "variant", "kind"), OURS)
def test_one_of_ours_runs_on_a_family_without_public_files(
    tmp_path: Path, name: str, variant: str, kind: Any
) -> None:
    family, parts = scene.load_family(name), scene.build_parts(name, variant)
    parts.denoiser = parts.denoiser.bfloat16() if name == "wan" else parts.denoiser  # type: ignore[union-attr]
    spec = scene.make_spec(family, variant)
    (bare,) = scene.draw_clips(family, parts, [spec])
    file = scene.write_file(tmp_path, scene.build_file(kind, family, parts.denoiser, own=True))
    plugin = "faceid" if kind in scene.FACES else "ip_adapter"
    size = (spec.frames, spec.height, spec.width)
    cells = family.variants[variant].grid.cells(*size)
    method = scene.build_method(
        plugin,
        family,
        parts,
        file,
        encoder=scene.write_encoder(tmp_path),
        masks={size: torch.full((1, 1, *cells), 0.6)},
    )
    (moved,) = scene.draw_clips(family, parts, [spec], method)
    assert torch.isfinite(moved).all()
    assert not torch.equal(moved, bare)
    (after,) = scene.draw_clips(family, parts, [spec])
    assert torch.equal(after, bare)


PUBLIC = [
    ("stable_diffusion", "sd15", "faceid-plusv2"),
    ("flux", "dev", "xlabs-flux"),
    ("sd3", "3.5-large", "instantx-sd3"),
]


@pytest.mark.parametrize(("name", "variant", "kind"), PUBLIC)
def test_in_half_precision_it_does_the_same_and_nothing_is_nothing(
    tmp_path: Path, name: str, variant: str, kind: Any
) -> None:
    family, parts = scene.load_family(name), scene.build_parts(name, variant)
    spec = scene.make_spec(family, variant, steps=1)
    file = scene.write_file(tmp_path, scene.build_file(kind, family, parts.denoiser))
    encoder = scene.write_encoder(tmp_path, "siglip" if name == "sd3" else "clip")
    plugin = "faceid" if kind in scene.FACES else "ip_adapter"
    denoiser, changes = parts.denoiser, []
    assert denoiser is not None
    for dtype in (torch.float32, torch.bfloat16):
        for part in (denoiser, parts.vae):
            part.to(dtype)  # type: ignore[union-attr]
        predictions = []
        for scale in (None, 0.0, 1.0):
            method = (
                scale
                if scale is None
                else scene.build_method(plugin, family, parts, file, encoder=encoder, scale=scale)
            )
            with record_first(denoiser) as outputs:
                scene.draw_clips(family, parts, [spec], method)
            predictions.append(outputs[0].double())
        assert torch.equal(predictions[0], predictions[1])
        changes.append(predictions[2] - predictions[0])
    assert (changes[1] - changes[0]).norm() < 0.2 * changes[0].norm()

"""FastFace as a user meets it: plain where it should be, on every family, and what it refuses."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.inference.freefuse.test_families import count_hooks
from tests.inference.plugins import scene
from torch import Tensor

from frisket.families.base import FAMILIES, Family, Parts
from frisket.families.experts import first
from frisket.families.models.wan import family as wan_family
from frisket.inference.methods.base import Method
from frisket.inference.methods.identity.decoupled import read_call
from frisket.inference.methods.identity.fastface.reading import FastFaceOptions
from frisket.inference.methods.identity.guidance import combine_decoupled, differ_from_plain
from frisket.inference.methods.plugin import METHODS, MethodUnusable
from frisket.inference.sample_specs import SampleSpec

PLUGIN = METHODS.load("fastface")
QUICK = [
    ("stable_diffusion", "sdxl"),
    ("wan", "2.1-t2v-1.3b"),
    ("qwen_image", "image"),
    ("pocket", "image"),
]
SLOW = [
    ("stable_diffusion", "sd15"),
    ("stable_diffusion", "sdxl-v"),
    ("sd3", "3.5-medium"),
    ("hunyuan_video", "1.5-480p-t2v"),
    ("pocket", "video"),
]
SLOW_TOO = pytest.mark.slow
CASES = [*QUICK, *(pytest.param(*case, marks=SLOW_TOO) for case in SLOW)]
PLAIN: dict[str, Any] = {"rescale": 0.0, "maps": "none"}
Scene = tuple[Family, Parts, Path]


def build_scene(folder: Path, name: str, variant: str) -> Scene:
    family, parts = scene.load_family(name), scene.build_parts(name, variant)
    assert parts.denoiser is not None
    own = name != "stable_diffusion"
    file = scene.build_file("faceid", family, first(parts.denoiser), own=own)
    return family, parts, scene.write_file(folder, file)


def sample(scenery: Scene, spec: SampleSpec, method: Method | None = None) -> Tensor:
    family, parts, _ = scenery
    return scene.draw_clips(family, parts, [spec], method)[0]


def build(scenery: Scene, changes: dict[str, Any], **options: Any) -> Method:
    family, parts, path = scenery
    changes = {"options": FastFaceOptions(**options), **changes}
    return scene.build_method("fastface", family, parts, path, **changes)


@pytest.fixture(scope="module")
def unet(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return build_scene(tmp_path_factory.mktemp("unet"), "stable_diffusion", "sdxl")


@pytest.mark.parametrize(("name", "variant"), CASES)
def test_one_strength_for_both_is_plain_guidance_on_every_family(
    tmp_path: Path, name: str, variant: str
) -> None:
    scenery = build_scene(tmp_path, name, variant)
    family, parts, path = scenery
    spec = scene.make_spec(family, variant, guidance=3.0)
    plain = sample(scenery, spec, scene.build_method("faceid", family, parts, path))
    hooks, bare = count_hooks(parts.denoiser), sample(scenery, spec)  # type: ignore[arg-type]
    assert torch.equal(sample(scenery, spec, build(scenery, {}, a=3.0, b=(3.0,), **PLAIN)), plain)
    # Another number than the pipeline's has its own effect, and the pipeline's has none.
    other = scene.make_spec(family, variant, guidance=2.0)
    by_two = sample(scenery, other, scene.build_method("faceid", family, parts, path))
    two = build(scenery, {}, a=2.0, b=2.0, **PLAIN)
    torch.testing.assert_close(sample(scenery, spec, two), by_two, rtol=0, atol=3e-6)
    apart = [
        sample(scenery, spec, build(scenery, {}, guidance=kind, a=1.0, b=4.0, maps=maps))
        for kind, maps in (("identity", "power"), ("text", "mask"), ("apart", "none"))
    ]
    assert all(torch.isfinite(clip).all() for clip in apart)
    assert all((clip - plain).abs().max() > 1e-3 for clip in apart)
    assert torch.equal(sample(scenery, spec), bare)
    assert count_hooks(parts.denoiser) == hooks  # type: ignore[arg-type]


@pytest.mark.slow
def test_two_experts_have_a_strength_of_the_pipelines_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variant = "2.2-t2v-a14b"
    scenery = build_scene(tmp_path, "wan", variant)
    family, parts, path = scenery
    spec = scene.make_spec(family, variant, steps=3, guidance=4.0)
    guided = sample(scenery, spec, build(scenery, {}, a=4.0, b=4.0, **PLAIN))
    plain = scene.build_method("faceid", family, parts, path)
    unlike = sample(scenery, spec, plain)
    monkeypatch.setitem(wan_family.LOW_GUIDANCE, variant, 1.0)
    torch.testing.assert_close(guided, sample(scenery, spec, plain), rtol=0, atol=3e-6)
    assert not torch.allclose(guided, unlike, atol=1e-4)


def test_without_scale_or_mask_it_is_the_base_and_outside_a_strict_mask_too(unet: Scene) -> None:
    family, parts, _ = unet
    spec = scene.make_spec(family, "sdxl", steps=4)
    size = (spec.frames, spec.height, spec.width)
    bare = sample(unet, spec)
    nothing = torch.zeros(1, 1, 1, spec.height // 8, spec.width // 8)
    for changes in (
        {"scale": 0.0},
        {"masks": {size: nothing}},
        {"masks": {size: nothing}, "strict": True},
    ):
        assert torch.equal(sample(unet, spec, build(unet, changes)), bare)
    assert torch.equal(
        sample(unet, spec, build(unet, {"masks": {size: nothing + 1}, "strict": True})),
        sample(unet, spec, build(unet, {"masks": {size: nothing + 1}})),
    )
    half = nothing.clone()
    half[..., half.shape[-1] // 2 :] = 1
    outputs: list[Tensor] = []
    denoiser: Any = parts.denoiser
    handle = denoiser.register_forward_hook(lambda *call: outputs.append(call[2][0]))
    for method in (None, build(unet, {"masks": {size: half}, "strict": True})):
        sample(unet, spec, method)
    handle.remove()
    bare_side, strict_side = outputs[0], outputs[4]
    columns = bare_side.shape[-1] // 2
    assert torch.equal(strict_side[..., :columns], bare_side[..., :columns])
    assert not torch.equal(strict_side[..., columns:], bare_side[..., columns:])


WEIGHTS = st.floats(-4, 8, allow_nan=False)


@given(WEIGHTS, WEIGHTS, st.floats(1.5, 9), st.sampled_from(["identity", "text"]))
def test_what_is_added_to_plain_guidance_is_the_rest_of_it(
    first: float, second: float, strength: float, kind: Any
) -> None:
    negative, middle, full = (scene.draw(f"side {n}", (2, 3, 4)).double() for n in range(3))
    weights = {"first": first, "second": second}
    guided = combine_decoupled(negative, middle, full, **weights, kind=kind)
    more = differ_from_plain(negative, middle, full, **weights, strength=strength)
    plain = negative + strength * (full - negative)
    torch.testing.assert_close(plain + more, guided, rtol=1e-9, atol=1e-9)
    # What the pipeline makes of the negative side that it is given.
    solved = negative + more / (1 - strength)
    torch.testing.assert_close(solved + strength * (full - solved), guided, rtol=1e-9, atol=1e-9)
    if first == second == strength:
        assert torch.equal(solved, negative)


@dataclass
class Nested:
    """One method around another."""

    methods: Sequence[Method]

    @contextmanager
    def attach(self, *args: Any) -> Iterator[None]:
        with ExitStack() as stack:
            for method in self.methods:
                stack.enter_context(method.attach(*args))
            yield


@pytest.mark.parametrize(("name", "variant"), [QUICK[1], pytest.param(*QUICK[0], marks=SLOW_TOO)])
def test_beside_a_strict_person_it_is_what_plain_guidance_is(
    tmp_path: Path, name: str, variant: str
) -> None:
    """The blend asks about each side twice, also where sides are asked about apart."""
    scenery = build_scene(tmp_path, name, variant)
    family, parts, path = scenery
    spec = scene.make_spec(family, variant, steps=2, guidance=3.0)
    size = (spec.frames, spec.height, spec.width)
    left = torch.zeros(1, 1, *family.variants[variant].grid.cells(*size))
    left[..., : left.shape[-1] // 2] = 1
    person = {"references": (scene.make_reference(5),)}
    strict = {**person, "masks": {size: left}, "strict": True}
    other = scene.build_method("faceid", family, parts, path, **strict)  # type: ignore[arg-type]
    plain = scene.build_method("faceid", family, parts, path)
    guided = build(scenery, {}, a=3.0, b=(3.0,), **PLAIN)
    both = sample(scenery, spec, Nested([other, guided]))
    assert torch.equal(both, sample(scenery, spec, Nested([other, plain])))
    assert not torch.equal(both, sample(scenery, spec, plain))


def test_samples_of_a_batch_are_apart(unet: Scene) -> None:
    family, parts, _ = unet
    method = build(unet, {}, maps="mask", moments=0.7)
    specs = [scene.make_spec(family, "sdxl", steps=2)]
    both = scene.draw_clips(family, parts, [*specs, replace(specs[0], seed=9)], method)
    torch.testing.assert_close(both[0], sample(unet, specs[0], method), rtol=0, atol=1e-5)


def test_maps_alone_need_no_guidance(unet: Scene) -> None:
    spec = scene.make_spec(unet[0], "sdxl", guidance=1.0)
    alone = sample(unet, spec, build(unet, {}, guidance="none", maps="power"))
    plain = sample(unet, spec, build(unet, {}, guidance="none", maps="none"))
    assert torch.isfinite(alone).all()
    assert not torch.allclose(alone, plain, atol=1e-4)


@pytest.mark.parametrize(
    ("spec_changes", "options", "words"),
    [
        ({"guidance": 1.0}, {}, "at least 1.5"),
        ({"guidance": 1.2}, {}, "guidance 1.2 leaves"),
        ({"steps": 5}, {}, "strengths for 4 steps, but 5"),
    ],
)
def test_what_a_sample_cannot_have_is_refused_before_the_first_step(
    unet: Scene, spec_changes: Any, options: Any, words: str
) -> None:
    spec = scene.make_spec(unet[0], "sdxl", **spec_changes)
    with pytest.raises(MethodUnusable, match=words):  # before anything is read
        PLUGIN.check(FastFaceOptions(**options), [spec])
    PLUGIN.check(FastFaceOptions(a=2.0, b=2.0, guidance="none"), [spec])
    with pytest.raises(ValueError, match=words):  # and of a caller who did not ask
        sample(unet, spec, build(unet, {}, **options))


REFUSED: list[tuple[Callable[[], Any], str]] = [
    (lambda: FastFaceOptions(a=()), "a is empty"),
    (lambda: FastFaceOptions(b_course="linear"), "b_course = 'linear' has nothing"),
    (lambda: FastFaceOptions(rescale=1.5), "rescale = 1.5"),
]


@pytest.mark.parametrize(("make", "words"), REFUSED)
def test_options_that_mean_nothing_are_refused(make: Callable[[], Any], words: str) -> None:
    with pytest.raises(MethodUnusable, match=words):
        make()


def test_files_and_models_that_cannot_are_refused(unet: Scene, tmp_path: Path) -> None:
    family, parts, _ = unet
    assert parts.denoiser is not None
    with pytest.raises(MethodUnusable, match="4 tokens of a face, 0 to 3"):
        build(unet, {}, map_tokens=(4,))
    base = scene.write_file(tmp_path, scene.build_file("base", family, parts.denoiser))
    with pytest.raises(MethodUnusable, match="'ip_adapter' reads it"):
        build((family, parts, base), {})
    flux = FAMILIES.load("flux")
    assert "one side alone" in PLUGIN.refuse(flux, "dev")
    assert "no attention layer" in PLUGIN.refuse(FAMILIES.load("z_image"), "turbo")
    assert PLUGIN.refuse(family, "sdxl-v") == ""


def test_a_call_says_its_strengths() -> None:
    sides = {"prompt_embeds": torch.ones(1, 2, 3), "negative_prompt_embeds": torch.zeros(1, 2, 3)}
    call = read_call({**sides, "guidance_scale": 4.0, "guidance_scale_2": 3.0}, 1, ["high", "low"])
    assert call.strengths == {"high": 4.0, "low": 3.0}
    call = read_call({**sides, "guidance_scale": 3.5, "true_cfg_scale": 2.0}, 1, [""])
    assert call.strengths == {"": 2.0}
    with pytest.raises(ValueError, match="no say beside"):
        read_call({"prompt_embeds": sides["prompt_embeds"], "guidance_scale": 4.0}, 1, [""])

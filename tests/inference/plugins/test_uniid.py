"""UniID as a user meets it: what it refuses, where it acts, and that nothing of it stays."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.inference.freefuse.test_families import count_hooks
from tests.inference.plugins import small_sdxl, uniid_cases
from torch import Tensor

from frisket.adapters import lora
from frisket.faces.base import EmbeddingMixup, FaceEmbedding
from frisket.faces.embedders import iresnet
from frisket.families.base import FAMILIES
from frisket.inference.generate import clips
from frisket.inference.methods.identity.uniid.method import UniId
from frisket.inference.methods.identity.uniid.reading import UniIdOptions
from frisket.inference.methods.identity.uniid.words import FaceWords
from frisket.inference.methods.plugin import METHODS, MethodRequest, MethodUnusable

PLUGIN = METHODS.load("uniid")
SIZE = (1, small_sdxl.SIDE, small_sdxl.SIDE)
FAMILY, PARTS = small_sdxl.build_parts()


@pytest.fixture(scope="module")
def request_whole(tmp_path_factory: pytest.TempPathFactory) -> MethodRequest:
    folder = uniid_cases.write_files(tmp_path_factory.mktemp("uniid"))
    return uniid_cases.make_request(folder, uniid_cases.Case(start=1))


@pytest.fixture(scope="module")
def plain() -> Tensor:
    return small_sdxl.sample(FAMILY, PARTS)


@pytest.fixture(scope="module")
def method(request_whole: MethodRequest) -> UniId:
    return PLUGIN.read(request_whole, FAMILY, "sdxl").build(FAMILY, PARTS)  # type: ignore[return-value]


def test_scale_0_and_a_mask_of_nothing_are_the_base_bit_for_bit(
    method: UniId, plain: Tensor
) -> None:
    hooks = count_hooks(PARTS.denoiser)  # type: ignore[arg-type]
    nothing = torch.zeros(1, 1, 1, 16, 16)
    sample = partial(small_sdxl.sample, FAMILY, PARTS)
    assert torch.equal(sample(replace(method, scale=0.0)), plain)
    for strict in (False, True):
        assert torch.equal(sample(replace(method, masks={SIZE: nothing}, strict=strict)), plain)
    assert torch.equal(sample(replace(method, masks={SIZE: nothing + 1})), sample(method))
    assert torch.equal(sample(), plain)
    assert count_hooks(PARTS.denoiser) == hooks  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="1 frames, 128 x 128"):
        sample(replace(method, masks={(1, 64, 64): nothing}))


@pytest.mark.parametrize(
    ("scale", "level", "passes"), [(0.0, 1.0, 1), (1.0, 0.0, 1), (1.0, 0.5, 2)]
)
def test_a_strict_mask_costs_a_second_pass_only_where_it_acts(
    method: UniId, plain: Tensor, scale: float, level: float, passes: int
) -> None:
    calls: list[Any] = []
    denoiser: Any = PARTS.denoiser
    handle = denoiser.conv_in.register_forward_hook(lambda *call: calls.append(call))
    mask = {SIZE: torch.full((1, 1, 1, 16, 16), level)}
    moved = small_sdxl.sample(FAMILY, PARTS, replace(method, scale=scale, masks=mask, strict=True))
    handle.remove()
    assert len(calls) == passes * small_sdxl.STEPS
    assert torch.equal(moved, plain) == (passes == 1)


def test_samples_of_a_batch_are_apart(method: UniId) -> None:
    both = small_sdxl.sample(FAMILY, PARTS, method, count=2)
    alone = small_sdxl.sample(FAMILY, PARTS, method)
    assert (both[:1] - alone).abs().max() <= 1e-5 * alone.abs().max()


def test_a_strict_mask_leaves_the_outside_of_a_prediction(method: UniId) -> None:
    half = torch.zeros(1, 1, 1, 16, 16)
    half[..., 8:] = 1
    base, softly, strictly = (
        _predict(replace(method, masks={SIZE: half}, **change))
        for change in ({"scale": 0.0}, {"strict": False}, {"strict": True})
    )
    assert torch.equal(strictly[..., :8], base[..., :8])
    assert torch.equal(strictly[..., 8:], softly[..., 8:])
    assert not torch.equal(softly[..., :8], base[..., :8])


def _predict(method: UniId) -> Tensor:
    """What the UNet gives in the first step."""
    outputs: list[Tensor] = []
    denoiser: Any = PARTS.denoiser
    handle = denoiser.register_forward_hook(lambda *call: outputs.append(call[2][0]))
    small_sdxl.sample(FAMILY, PARTS, method)
    handle.remove()
    return outputs[0]


def test_it_runs_in_bfloat16_without_guidance_and_beside_a_lora(
    request_whole: MethodRequest,
) -> None:
    family, parts = small_sdxl.build_parts()
    assert parts.denoiser is not None
    lora.attach(parts.denoiser, lora.LoraSpec(rank=2, targets=family.lora_targets), seed=0)
    for name, value in lora.trainable(parts.denoiser).items():
        value.data = small_sdxl.draw_named(name, value).to(value) * 0.1
    parts.denoiser, parts.vae = parts.denoiser.bfloat16(), parts.vae.bfloat16()  # type: ignore[union-attr]
    method = PLUGIN.read(request_whole, family, "sdxl").build(family, parts)
    specs = [replace(small_sdxl.build_specs(family)[0], guidance=1.0, steps=2)]
    embedding = {"text": small_sdxl.draw(1, 1, 77, 128), "pooled": small_sdxl.draw(2, 1, 16)}
    embeddings = {(specs[0].prompt, ()): embedding, ("", ()): embedding}
    moved, bare = (
        next(iter(clips(family, parts, embeddings, specs, method=kind)))[1]
        for kind in (method, None)
    )
    assert torch.isfinite(moved).all()
    assert not torch.equal(moved, bare)


def test_the_words_have_the_norms_of_those_they_push_aside() -> None:
    text = small_sdxl.draw(1, 2, 9, 8)
    words = FaceWords([small_sdxl.draw(2, 1, 3, 6), small_sdxl.draw(3, 1, 3, 2)])
    written = words.write_into(text, 1.5)
    assert torch.equal(written[:, :1], text[:, :1])
    assert torch.equal(written[:, 4:], text[:, 1:6])
    for part in (slice(0, 6), slice(6, 8)):
        norms = written[:, 1:4, part].norm(dim=-1)
        torch.testing.assert_close(norms, 1.5 * text[:, 1:4, part].norm(dim=-1))
    with pytest.raises(ValueError, match="8 channels wide, the prompt 4"):
        words.write_into(text[..., :4], 1.0)


def test_several_pictures_of_one_person_are_averaged(request_whole: MethodRequest) -> None:
    one = request_whole.references[0]
    assert one.face is not None
    second = replace(one, face=FaceEmbedding(one.face.raw, small_sdxl.draw_crop(7)[0]))
    reads: Any = [
        PLUGIN.read(replace(request_whole, references=references), FAMILY, "sdxl")
        for references in ((one,), (second,), (one, second))
    ]
    tokens = [read.image.tokens for read in reads]
    torch.testing.assert_close(tokens[2], (tokens[0] + tokens[1]) / 2, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(tokens[0], tokens[1], atol=1e-3)


def _lose_crop(request: MethodRequest) -> MethodRequest:
    one = request.references[0]
    assert one.face is not None
    return replace(request, references=(replace(one, face=FaceEmbedding(one.face.raw)),))


REFUSED: dict[str, tuple[Callable[[MethodRequest], MethodRequest], type[Exception], str]] = {
    "no picture": (lambda asked: replace(asked, references=()), MethodUnusable, "--face"),
    "no face": (_lose_crop, MethodUnusable, r"ada\.jpg.*aligned face"),
    "no network": (lambda asked: replace(asked, encoder=None), MethodUnusable, "iResNet-100"),
    "another folder": (
        lambda asked: replace(asked, source=asked.source.parent),
        FileNotFoundError,
        "pangly/UniID",
    ),
    "no such branch": (
        lambda asked: replace(
            asked, source=asked.source / "adapter_branch", options=UniIdOptions(branches="text")
        ),
        FileNotFoundError,
        "no text_branch",
    ),
    "strict everywhere": (
        lambda asked: replace(asked, strict=True),
        MethodUnusable,
        "give one",
    ),
    "no norms": (
        lambda asked: replace(
            asked,
            source=asked.source / "text_branch",
            options=UniIdOptions(norms="names"),
        ),
        MethodUnusable,
        'norms = "prompt"',
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_is_refused_before_any_work(name: str, request_whole: MethodRequest) -> None:
    change, error, words = REFUSED[name]
    with pytest.raises(error, match=words):
        PLUGIN.read(change(request_whole), FAMILY, "sdxl")


def test_other_networks_and_models_are_refused(
    request_whole: MethodRequest, tmp_path: Path
) -> None:
    narrow = iresnet.build_tiny(tmp_path / "network")
    with pytest.raises(EmbeddingMixup, match="16 numbers"):
        PLUGIN.read(replace(request_whole, encoder=narrow), FAMILY, "sdxl")
    wan = FAMILIES.load("wan")
    variant = next(iter(wan.variants))
    assert "UNets" in PLUGIN.refuse(wan, variant)
    with pytest.raises(MethodUnusable, match=f"for UNets .* wan {variant} has none"):
        PLUGIN.read(request_whole, wan, variant)
    assert PLUGIN.refuse(FAMILY, "sd15") == ""
    read = PLUGIN.read(request_whole, FAMILY, "sd15")
    with pytest.raises(MethodUnusable, match=r"text branch makes tokens of 128 channels"):
        read.build(FAMILY, FAMILY.tiny("sd15"))
    with pytest.raises(MethodUnusable, match="start = -1"):
        UniIdOptions(start=-1)

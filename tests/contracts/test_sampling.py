"""What every family promises of sampling: its parts and the public pipeline make the same."""

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.pipelines.qwenimage import pipeline_qwenimage_edit as edit
from diffusers.pipelines.qwenimage import pipeline_qwenimage_edit_plus as edit_plus
from diffusers.pipelines.qwenimage.pipeline_qwenimage_edit_plus import (
    calculate_dimensions as dimensions,
)
from safetensors.torch import load_file
from torch import Tensor, nn

from frisket.adapters import lora
from frisket.attention.capture import capture, match_prompts
from frisket.families.base import default_targets
from frisket.families.experts import experts_of
from frisket.inference.generate import clips, collate, embed
from frisket.inference.sample_specs import SampleSpec, build_spec, references
from frisket.media.frames import write_image
from frisket.objectives.epsilon import Epsilon

STEPS = 2
TOKENS = {"schnell": 256}  # it was trained with; the pipeline's default is that of dev


@pytest.fixture(autouse=True)
def thumbnails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Qwen's edit pipelines show every picture at a megapixel; at 1024 pixels nothing else differs.

    tests/families/test_qwen_image_edit.py has them as released.
    """

    for name in ("VAE_IMAGE_SIZE", "CONDITION_IMAGE_SIZE"):
        monkeypatch.setattr(edit_plus, name, 32 * 32)
    monkeypatch.setattr(
        edit, "calculate_dimensions", lambda _, ratio: (*dimensions(32 * 32, ratio), None)
    )


@pytest.fixture
def small(case, tmp_path: Path) -> SampleSpec:
    """The least sample that has every part a sample can have: frames, pictures, no guidance."""
    height, width = case.size
    images = []
    if case.card.sees != "nothing":
        frame = torch.randint(256, (height, width, 3), generator=torch.Generator().manual_seed(0))
        images = [tmp_path / "seen.png"]
        write_image(images[0], frame.to(torch.uint8))
    return build_spec(
        case.card,
        "a red fox",
        11,
        images=images,
        height=height,
        width=width,
        frames=case.lengths[-1],
        steps=STEPS,
        guidance=1.0,
    )


def size_of(pipeline: Any, of: SampleSpec) -> dict[str, Any]:
    size = {"height": of.height, "width": of.width, "num_frames": of.frames}
    names = inspect.signature(pipeline.__call__).parameters
    return {name: value for name, value in size.items() if name in names}


def run(pipeline: Any, shots: list[SampleSpec], **given: Any) -> Any:
    pipeline.set_progress_bar_config(disable=True)
    return pipeline(
        num_inference_steps=shots[0].steps,
        generator=[torch.Generator().manual_seed(each.seed) for each in shots],
        **size_of(pipeline, shots[0]),
        **given,
    )


@contextmanager
def watched(denoiser: nn.Module) -> Iterator[list[tuple[dict[str, Tensor], dict[str, Tensor]]]]:
    """What each call inside is given and gives, whichever expert it goes to."""
    calls: list[tuple[dict[str, Tensor], dict[str, Tensor]]] = []

    def watch(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        bound = inspect.signature(module.forward).bind(*args, **kwargs)
        calls.append((flat(bound.arguments), flat({"output": output})))

    models = experts_of(denoiser).values()
    hooks = [model.register_forward_hook(watch, with_kwargs=True) for model in models]
    yield calls
    for hook in hooks:
        hook.remove()


def flat(value: Any, name: str = "") -> dict[str, Tensor]:
    """Every tensor in nested lists and tables, by its path."""
    if isinstance(value, Tensor):
        return {name: value.clone()}
    if isinstance(value, Mapping):
        inside = value.items()
    else:
        inside = enumerate(value) if isinstance(value, list | tuple) else ()
    return {
        path: tensor
        for key, each in inside
        for path, tensor in flat(each, f"{name}.{key}".strip(".")).items()
    }


def aligned(one: Tensor, other: Tensor) -> Tensor:
    """With axes of one where the other has more: in front if the rest is alike, else behind."""
    missing = [None] * (other.ndim - one.ndim)
    behind = other.shape[other.ndim - one.ndim :] != one.shape
    return one[(..., *missing)] if behind else one[(*missing, ...)]


def assert_alike(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> None:
    for name in ours.keys() & theirs.keys():
        one, other = ours[name], theirs[name]
        if one.ndim == other.ndim > 1:
            # One side may pad texts further; some families predict a batch sample by sample.
            rows, length = (min(one.shape[axis], other.shape[axis]) for axis in (0, 1))
            one, other = one[:rows, :length], other[:rows, :length]
        one, other = aligned(one, other), aligned(other, one)  # t a sample or a token
        one, other = torch.broadcast_tensors(one.float(), other.float())
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5, msg=lambda m, n=name: n + m)


def test_the_stock_pipeline_feeds_the_denoiser_what_predict_feeds_it(case, denoiser, small):
    family, parts = case.family, replace(case.parts, denoiser=denoiser)
    shots = [small, replace(small, prompt="two boats", seed=12)]
    shots = shots[:1] if case.card.sees == "pictures" else shots  # what stock pipelines take
    told = embed(family, case.variant, parts.text, shots)
    given = collate([told[each.prompt, each.images] for each in shots])
    seen = references(case.card, small)
    pipeline = family.pipeline(replace(parts, text=None))
    call = family.call(case.variant, given, None, guidance=1.0, references=seen)
    with watched(denoiser) as calls:
        run(pipeline, shots, **call, output_type="latent")
    theirs = calls[0]

    first = pipeline.scheduler.timesteps[0]
    levels = isinstance(family.objective(case.variant), Epsilon)
    t = torch.full((len(shots),), (float(first) + 1) / 1000 if levels else float(first) / 1000)
    shape = (1, case.card.grid.channels, *case.card.grid.cells(small.frames, *case.size))
    generators = [torch.Generator().manual_seed(each.seed) for each in shots]
    noise = torch.cat([torch.randn(shape, generator=generator) for generator in generators])
    clip = torch.zeros(1, 3, small.frames, *case.size)
    if case.card.sees == "first_frame":
        clip[:, :, 0] = seen[0].permute(0, 3, 1, 2) / 127.5 - 1
        seen = []
    observed = family.image_conditioning(parts.vae, parts.vision, clip, seen)
    both = {name: value.expand(len(shots), *value.shape[1:]) for name, value in observed.items()}
    with watched(denoiser) as calls, torch.no_grad():
        family.predict(denoiser, noise, t, {**given, **both})
    ours = calls[0]

    assert ours[0].keys() & theirs[0].keys()
    assert_alike(ours[0], theirs[0])
    assert ours[1].keys() == theirs[1].keys()
    assert_alike(ours[1], theirs[1])


# diffusers adds zeros for the image layers of Wan I2V, which the file says nothing of.
@pytest.mark.filterwarnings("ignore:While injecting the PEFT adapters:RuntimeWarning")
def test_our_sample_with_a_lora_is_the_stock_pipelines_with_its_file(
    case, denoiser, small, tmp_path
):
    family = case.family
    targets, dead = default_targets(family, case.variant)
    spec = lora.LoraSpec(rank=2, alpha=3.0, targets=targets, dead=dead)
    plain = deepcopy(denoiser)
    lora.attach(denoiser, spec, seed=0)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for value in lora.trainable(denoiser).values():
            value.add_(0.1 * torch.randn(value.shape, generator=generator))
    file = tmp_path / "lora.safetensors"
    files = lora.save(denoiser, file, {}, prefix=family.lora_prefix)
    takes = "negative_prompt" in inspect.signature(family.pipeline(case.parts).__call__).parameters
    guided = replace(small, guidance=3.0, negative="blurry" if takes else "")
    told = embed(family, case.variant, case.parts.text, [guided])
    ours, base = (
        next(clips(family, replace(case.parts, text=None, denoiser=model), told, [guided]))[1]
        for model in (denoiser, plain)
    )

    pipeline = family.pipeline(replace(case.parts, denoiser=plain))
    for path, (expert, model) in zip(files, experts_of(plain).items(), strict=True):
        if hasattr(pipeline, "load_lora_weights"):
            second = {"load_into_transformer_2": True} if expert == "low" else {}
            pipeline.load_lora_weights(str(path.parent), weight_name=path.name, **second)
        else:
            model.load_lora_adapter(
                str(path.parent), weight_name=path.name, prefix=family.lora_prefix
            )
        loaded = [v for name, v in model.named_parameters() if ".lora_" in name and v.any()]
        assert len(loaded) == len(load_file(path))
    theirs = stock(case, pipeline, told, guided)
    assert (ours - base).abs().max() > 1e-3
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)


def stock(case, pipeline: Any, told: Any, of: SampleSpec) -> Tensor:
    """What the public pipeline makes of the prompt as text; F 3 H W in [0, 1]."""
    side = told[of.prompt, of.images]
    away = told.get((of.negative, of.images)) if case.card.negative else None
    seen = references(case.card, of)
    call = case.family.call(case.variant, side, away, guidance=of.guidance, references=seen)
    call = {name: value for name, value in call.items() if value is not None and not flat([value])}
    call |= {"negative_prompt": [of.negative]} if of.negative and away is not None else {}
    call |= {"max_sequence_length": TOKENS[case.variant]} if case.variant in TOKENS else {}
    made = run(pipeline, [of], prompt=[of.prompt], **call, output_type="pt")
    return made.frames[0] if hasattr(made, "frames") else made.images


def test_samples_have_the_size_asked_for_and_hear_seed_and_prompt(case, small):
    guided = replace(small, guidance=case.card.guidance)
    shots = [guided, replace(guided, seed=12), replace(guided, prompt="two boats")]
    told = embed(case.family, case.variant, case.parts.text, shots)
    parts = replace(case.parts, text=None)
    made = [clip for _, clip in clips(case.family, parts, told, shots)]
    for clip in made:
        assert clip.shape == (small.frames, 3, small.height, small.width)
        assert clip.isfinite().all()
        assert ((clip >= 0) & (clip <= 1)).all()
        assert clip.std() > 0
    assert not torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])


def test_attention_is_captured_while_a_pipeline_samples(case, denoiser, small):
    """The rows of the prompt, with guidance and without: the first step's are the same."""
    family, parts = case.family, replace(case.parts, denoiser=denoiser)
    shot = replace(small, negative="blurred, many words of it", guidance=3.0)
    texts = embed(family, case.variant, parts.text, [shot])
    given = texts[shot.prompt, shot.images]
    away = texts.get((shot.negative, shot.images))
    seen = references(case.card, shot)
    pipeline = family.pipeline(replace(parts, text=None))
    layers = [
        layer
        for model in experts_of(denoiser).values()
        for layer in family.list_attention_layers(model)
    ]
    matched = match_prompts(given["tokens" if "tokens" in given else "text"])
    captured = []
    for negative in (away, None):
        guidance = 1.0 if negative is None else 3.0
        call = family.call(case.variant, given, negative, guidance=guidance, references=seen)
        with capture(layers, [[[1], [0, 2]]], rows=matched) as maps:
            run(pipeline, [shot], **call, output_type="latent")
        assert len(maps.calls) == STEPS
        assert all(
            float(call.timestep.flatten()[0]) >= 0 and len(call.maps) == len(maps.maps)
            for call in maps.calls
        )
        captured.append(maps.calls[0].maps)
    guided, plain = captured
    for name, values in plain.items():
        torch.testing.assert_close(guided[name], values, rtol=1e-4, atol=1e-5, msg=name)

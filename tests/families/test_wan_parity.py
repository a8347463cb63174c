"""Every Wan variant against the stock diffusers pipelines: what the transformer is fed and says."""

import pytest
import torch
from diffusers import WanImageToVideoPipeline, WanPipeline
from PIL import Image

from frisket.families.base import CLEAN_MASK
from frisket.families.experts import experts_of
from frisket.families.models.wan.family import FAMILY
from frisket.losses.base import weighted_mse
from frisket.masks.coverage import to_latent
from frisket.masks.weights import RegionWeights

PROMPT, NEGATIVE = "a red fox on snow", "blurry"
IMAGE = ("2.1-i2v-14b-480p", "2.2-i2v-a14b", "2.2-ti2v-5b-i2v")
VARIANTS = (*IMAGE, "2.2-t2v-a14b", "2.2-ti2v-5b")
SIZE = (64, 96)


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def frames(count: int, seed: int = 0) -> torch.Tensor:
    """A clip as uint8 F H W 3."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (count, *SIZE, 3), generator=generator).to(torch.uint8)


def clip_of(pictures: torch.Tensor) -> torch.Tensor:
    return (pictures.permute(3, 0, 1, 2)[None].float() / 255) * 2 - 1


@pytest.fixture(scope="module", params=VARIANTS)
def parts(request):
    return FAMILY.tiny(request.param)


@pytest.fixture(scope="module")
def pipeline(parts):
    found = FAMILY.pipeline(parts)
    found.set_progress_bar_config(disable=True)
    return found


def watch(denoiser):
    """Record what every expert is told and says, in order, until `stop` is called."""
    calls = []
    handles = [
        expert.register_forward_hook(
            lambda _, __, given, out, name=name: calls.append((name, given, out[0])),
            with_kwargs=True,
        )
        for name, expert in experts_of(denoiser).items()
    ]
    return calls, lambda: [handle.remove() for handle in handles]


def assert_same(ours: dict, theirs: dict) -> None:
    """Equal tensors; one level a sample stands for the same level spelled out a token."""
    for name, value in theirs.items():
        if not isinstance(value, torch.Tensor):
            continue
        mine = ours[name]
        if name == "timestep" and mine.ndim < value.ndim:
            mine = mine[:, None].expand_as(value)
        torch.testing.assert_close(mine, value.to(mine.dtype), atol=1e-5, rtol=0)


def test_the_transformer_is_fed_what_the_stock_pipeline_feeds_it(parts, pipeline):
    video = frames(5)
    seen = {"image": Image.fromarray(video[0].numpy())} if parts.variant in IMAGE else {}
    assert type(pipeline) is (WanImageToVideoPipeline if seen else WanPipeline)
    calls, stop = watch(parts.denoiser)
    generator = torch.Generator().manual_seed(1)
    sizes = {"height": SIZE[0], "width": SIZE[1], "num_frames": 5, "num_inference_steps": 4}
    pipeline(
        prompt=PROMPT,
        negative_prompt=NEGATIVE,
        generator=generator,
        output_type="latent",
        **sizes,
        **seen,
    )
    stop()
    assert len(calls) == 8
    assert {name for name, *_ in calls} == set(experts_of(parts.denoiser))
    channels = FAMILY.variants[parts.variant].grid.channels
    told = FAMILY.image_conditioning(parts.vae, parts.vision, clip_of(video))
    for index, (expert, given, prediction) in enumerate(calls):
        conditioning = told | FAMILY.embed(parts.text, [NEGATIVE if index % 2 else PROMPT])
        noisy = given["hidden_states"][:, :channels].clone()
        if CLEAN_MASK in told:
            noisy[:, :, 0] = draw(*noisy[:, :, 0].shape)  # of no account: the clean frame is given
        t = given["timestep"].amax().view(1).float() / 1000
        again, stop = watch(parts.denoiser)
        with torch.no_grad():
            ours = FAMILY.predict(parts.denoiser, noisy, t, conditioning)
        stop()
        assert [name for name, *_ in again] == [expert]
        assert_same(again[0][1], given)
        torch.testing.assert_close(ours, prediction, atol=1e-5, rtol=0)


def test_what_call_gives_samples_as_the_stock_pipeline_does_with_prompt_and_picture(
    parts, pipeline
):
    card, video = FAMILY.variants[parts.variant], frames(1, seed=3)
    references = [video] if parts.variant in IMAGE else []
    seen = {"image": Image.fromarray(video[0].numpy())} if references else {}
    if parts.variant == "2.2-t2v-a14b":
        seen["guidance_scale_2"] = 3.0  # the authors' default beside 4
    told = FAMILY.call(
        parts.variant,
        FAMILY.embed(parts.text, [PROMPT]),
        FAMILY.embed(parts.text, [NEGATIVE]),
        guidance=4.0,
        references=references,
    )
    blind = FAMILY.tiny(parts.variant)
    blind.text = None
    ours = FAMILY.pipeline(blind)
    ours.set_progress_bar_config(disable=True)
    sizes = {"height": SIZE[0], "width": SIZE[1], "num_frames": 5, "num_inference_steps": 3}

    def sample(stock, **given) -> torch.Tensor:
        generator = torch.Generator().manual_seed(2)
        return stock(generator=generator, output_type="pt", **sizes, **given).frames

    theirs = sample(pipeline, prompt=PROMPT, negative_prompt=NEGATIVE, guidance_scale=4.0, **seen)
    assert torch.equal(sample(ours, **told), theirs)
    assert theirs.shape == (1, 5, 3, *SIZE)
    assert pipeline.scheduler.config.flow_shift == card.shift


def test_nothing_is_guided_away_from_without_a_negative(parts):
    references = [frames(1)] if parts.variant in IMAGE else []
    positive = FAMILY.embed(parts.text, [PROMPT])
    told = FAMILY.call(parts.variant, positive, None, guidance=5.0, references=references)
    assert told["guidance_scale"] == told.get("guidance_scale_2", 1.0) == 1.0


@pytest.mark.parametrize("count", [1, 5, 17])
def test_one_painted_cell_teaches_exactly_that_cell(parts, count):
    card = FAMILY.variants[parts.variant]
    grid = card.grid
    cells = grid.cells(count, *SIZE)
    cell = (cells[0] - 1, 1, cells[2] - 1)
    plane = torch.zeros(1, count, *SIZE)
    rows, columns = (slice(i * grid.spatial, (i + 1) * grid.spatial) for i in cell[1:])
    for frame in grid.frames_of(cell[0]):
        plane[0, frame, rows, columns] = 1
    weights = RegionWeights({"subject": 1.0}, background=0.0)(
        to_latent(plane, grid)[None], torch.tensor([True])
    )
    noisy = draw(1, grid.channels, *cells)
    told = FAMILY.image_conditioning(parts.vae, parts.vision, clip_of(frames(count)))
    told = told | FAMILY.embed(parts.text, [PROMPT])
    prediction = FAMILY.predict(parts.denoiser, noisy, torch.tensor([0.5]), told)
    prediction.requires_grad_(True)
    weighted_mse(prediction, draw(*noisy.shape, seed=1), weights).sum().backward()
    assert (prediction.grad != 0).any(1)[0].nonzero().tolist() == [list(cell)]


def test_what_another_kind_of_variant_needs_is_missed_aloud(parts):
    grid = FAMILY.variants[parts.variant].grid
    noisy, t = draw(1, grid.channels, 1, 4, 4), torch.tensor([0.5])
    told = FAMILY.embed(parts.text, [PROMPT])
    foreign = {"condition": draw(1, 20, 1, 4, 4)}
    wrong = told if parts.variant in IMAGE[:2] else told | foreign
    with pytest.raises(ValueError, match=r"reads \d+ channels and was given \d+"):
        FAMILY.predict(parts.denoiser, noisy, t, wrong)

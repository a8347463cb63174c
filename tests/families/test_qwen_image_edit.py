"""The edit models of Qwen-Image against the stock pipelines: what they look at, how large."""

import json

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from diffusers.pipelines.qwenimage import pipeline_qwenimage_edit as edit
from diffusers.pipelines.qwenimage import pipeline_qwenimage_edit_plus as plus
from PIL import Image
from transformers import Qwen2VLImageProcessorPil

from frisket.families import tiny
from frisket.families.base import Source
from frisket.families.models.qwen_image import FAMILY
from frisket.families.shared import qwen_references as seeing
from frisket.families.shared.qwen_references import AREA, latents_from, tokens
from frisket.families.shared.qwen_text import PictureProcessor, tiny_encoder, tiny_processor

PROMPT, NEGATIVE = "make the fox blue", "blurry, and more"
EDITS = ("edit", "edit-2509", "edit-2511")
SMALL, MEGAPIXEL, SIDES = 32 * 32, plus.VAE_IMAGE_SIZE, plus.calculate_dimensions


def photo(height: int, width: int, seed: int = 0) -> torch.Tensor:
    values = torch.rand(1, 4, 5, 3, generator=torch.Generator().manual_seed(seed)).movedim(-1, 1)
    smooth = torch.nn.functional.interpolate(values, (height, width), mode="bicubic")
    return (smooth.clamp(0, 1) * 255).byte().movedim(1, -1).contiguous()


def seen_by(variant: str) -> list[torch.Tensor]:
    """One picture, or two of unlike proportions where the model takes several."""
    return [photo(60, 90), photo(70, 40, seed=1)][: 1 if variant == "edit" else 2]


def pil(frames: torch.Tensor) -> Image.Image:
    return Image.fromarray(frames[0].numpy())


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def plain(stock) -> DiffusionPipeline:
    stock.set_progress_bar_config(disable=True)
    return stock


@pytest.fixture(scope="module", params=EDITS)
def variant(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def parts(variant):
    return FAMILY.tiny(variant)


@pytest.fixture(scope="module", autouse=True)
def small():
    """Pictures of 32 x 32 pixels, as the tiny VAE wants them; the last test has a megapixel."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plus, "VAE_IMAGE_SIZE", SMALL)
        patch.setattr(edit, "calculate_dimensions", lambda _, r: (*SIDES(SMALL, r), None))
        yield


@pytest.fixture(scope="module")
def captured(variant, parts):
    """What the stock pipeline hands its transformer, guided."""
    calls = []
    handle = parts.denoiser.register_forward_hook(
        lambda _, __, given, out: calls.append((given, out[0])), with_kwargs=True
    )
    pictures = [pil(frames) for frames in seen_by(variant)]
    plain(FAMILY.pipeline(parts))(
        image=pictures[0] if variant == "edit" else pictures,
        prompt=PROMPT,
        negative_prompt=NEGATIVE,
        height=32,
        width=48,
        num_inference_steps=2,
        generator=torch.Generator().manual_seed(9),
        callback_on_step_end=lambda pipe, *_: setattr(pipe, "_interrupt", True) or {},
        output_type="latent",
    )
    handle.remove()
    assert len(calls) == 2
    return calls


def test_the_transformer_is_fed_what_the_stock_pipeline_feeds_it(variant, parts, captured):
    seen = seen_by(variant)
    observed = FAMILY.image_conditioning(parts.vae, None, draw(1, 3, 1, 32, 48), seen)
    calls = []
    handle = parts.denoiser.register_forward_hook(
        lambda _, __, given, out: calls.append((given, out[0])), with_kwargs=True
    )
    noise = draw(1, 1, 16, 4, 6, seed=9).transpose(1, 2)
    torch.testing.assert_close(captured[0][0]["hidden_states"][:, :6], tokens(noise))
    for (given, prediction), prompt in zip(captured, (PROMPT, NEGATIVE), strict=True):
        conditioning = {**FAMILY.embed(parts.text, [prompt], [seen]), **observed}
        with torch.no_grad():
            made = FAMILY.predict(parts.denoiser, noise, given["timestep"], conditioning)
        told = calls[-1][0]
        for name in ("hidden_states", "timestep", "encoder_hidden_states"):
            torch.testing.assert_close(told[name], given[name], atol=1e-5, rtol=0)
        assert told["encoder_hidden_states_mask"] is given["encoder_hidden_states_mask"] is None
        assert told["img_shapes"] == given["img_shapes"]
        stocks = latents_from(prediction[:, :6], 4, 6)
        torch.testing.assert_close(made, stocks, atol=1e-5, rtol=0)
    handle.remove()


def test_previews_need_no_text_encoder_and_agree_with_those_that_have_one():
    variant, size = "edit-2511", {"height": 32, "width": 48, "num_inference_steps": 2}
    parts, seen = FAMILY.tiny(variant), seen_by(variant)
    whole = plain(FAMILY.pipeline(parts))(
        image=[pil(frames) for frames in seen],
        prompt=PROMPT,
        negative_prompt=NEGATIVE,
        true_cfg_scale=3.0,
        generator=torch.Generator().manual_seed(1),
        output_type="latent",
        **size,
    ).images
    positive, negative = (FAMILY.embed(parts.text, [text], [seen]) for text in (PROMPT, NEGATIVE))
    parts.text = None
    given = FAMILY.call(variant, positive, negative, guidance=3.0, references=seen)
    generator = torch.Generator().manual_seed(1)
    bare = plain(FAMILY.pipeline(parts))(
        **given, **size, generator=generator, output_type="latent"
    ).images
    torch.testing.assert_close(bare, whole, atol=1e-5, rtol=0)


def test_the_prediction_is_of_the_target_and_hears_the_references():
    parts = FAMILY.tiny("edit-2509")
    seen = [photo(60, 90), photo(70, 40, seed=1)]
    text = FAMILY.embed(parts.text, [PROMPT], [seen])
    observed = FAMILY.image_conditioning(parts.vae, None, draw(1, 3, 1, 32, 48), seen)
    assert list(observed) == ["reference_0", "reference_1"]
    assert [value.shape[2:] for value in observed.values()] == [(1, 4, 4), (1, 4, 4)]
    noisy, t = draw(1, 16, 1, 4, 6), torch.tensor([0.5])
    with torch.no_grad():
        made = FAMILY.predict(parts.denoiser, noisy, t, {**text, **observed})
        fewer = {**text, "reference_0": observed["reference_0"]}
        other = {**text, "reference_0": observed["reference_1"]}
        alone = [FAMILY.predict(parts.denoiser, noisy, t, each) for each in (fewer, other, text)]
    assert made.shape == noisy.shape
    assert all(not torch.allclose(made, each) for each in alone)
    assert not torch.allclose(alone[0], alone[1])


def test_2511_modulates_its_references_as_clean_pictures():
    seen, t = [photo(32, 32)], torch.tensor([0.0])
    for variant, still in (("edit-2509", False), ("edit-2511", True)):
        parts = FAMILY.tiny(variant)
        given = {
            **FAMILY.embed(parts.text, [PROMPT], [seen]),
            **FAMILY.image_conditioning(parts.vae, None, draw(1, 3, 1, 32, 32), seen),
        }
        block = parts.denoiser.transformer_blocks[0].img_mod
        rows = []
        block.register_forward_hook(lambda _, __, out, rows=rows: rows.append(out))
        with torch.no_grad():
            for level in (t, t + 0.8):
                FAMILY.predict(parts.denoiser, draw(1, 16, 1, 4, 4), level, given)
        assert len(rows[0]) == 1 + still
        assert torch.equal(rows[0][-1], rows[1][-1]) == still  # the row the references are given


def test_the_encoder_puts_picture_tokens_in_their_place():
    with tiny.seed_torch():
        encoder = tiny_encoder().eval()
    processor = tiny_processor()
    picture = pil(photo(60, 90))
    text = "Picture 1: <|vision_start|><|image_pad|><|vision_end|>blue"
    inputs = processor(text=[text], images=[picture], padding=True, return_tensors="pt")
    positions = []
    encoder.model.language_model.register_forward_pre_hook(
        lambda _, __, given: positions.append(given["position_ids"]), with_kwargs=True
    )
    types = inputs.pop("mm_token_type_ids")
    with torch.no_grad():
        ours = encoder(**inputs).logits  # as the stock pipelines call it
        stock = encoder(**inputs, mm_token_type_ids=types).logits
    assert torch.equal(ours, stock)
    assert torch.equal(*positions)
    where = inputs["input_ids"][0] == processor.image_token_id
    frames, rows, columns = positions[0][:, 0, where].unbind(0)
    assert frames.unique().numel() == 1
    assert rows.unique().numel() * columns.unique().numel() == where.sum() > 1


def test_the_processor_shows_what_the_slow_stock_one_shows(tmp_path):
    processor = tiny_processor()
    processor.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "processor_config.json").read_text())["processor_class"] == (
        "Qwen2VLProcessor"
    )
    again = PictureProcessor.from_pretrained(str(tmp_path), local_files_only=True)
    stock = Qwen2VLImageProcessorPil(size={"shortest_edge": 3136, "longest_edge": 3136})
    pictures = [pil(photo(60, 90)), pil(photo(70, 40, seed=1))]
    text = ["a<|image_pad|>b<|image_pad|>c"]
    wanted = stock(pictures, return_tensors="np")
    for each in (processor, again):
        made = each(text=text, images=pictures, padding=True, return_tensors="np")
        np.testing.assert_allclose(made["pixel_values"], wanted["pixel_values"], atol=1e-5)
        assert (made["image_grid_thw"] == wanted["image_grid_thw"]).all()
        cells = wanted["image_grid_thw"].prod(1).sum() // 4
        assert (made["input_ids"] == each.image_token_id).sum() == cells


def test_the_released_layout_of_a_processor_folder_is_read(tmp_path):
    tiny_processor().tokenizer.save_pretrained(tmp_path)
    released = {
        "image_processor_type": "Qwen2VLImageProcessorFast",
        "min_pixels": 3136,
        "max_pixels": 12845056,
        "patch_size": 14,
        "temporal_patch_size": 2,
        "merge_size": 2,
        "processor_class": "Qwen2_5_VLProcessor",
    }
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(released))
    read = PictureProcessor.from_pretrained(str(tmp_path), local_files_only=True)
    made = read(text=["<|image_pad|>"], images=[pil(photo(56, 84))], return_tensors="pt")
    assert made["image_grid_thw"].tolist() == [[1, 4, 6]]
    assert (made["input_ids"] == read.image_token_id).sum() == 6


def test_saved_parts_name_public_classes_only(tmp_path):
    parts = FAMILY.tiny("edit-2511")
    FAMILY.save(parts, tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    assert index["_class_name"] == "QwenImageEditPlusPipeline"
    assert index["processor"] == ["transformers", "Qwen2VLProcessor"]
    assert "frisket" not in json.dumps(index)
    with pytest.raises(ValueError, match="zero_cond_t is True, not False"):
        FAMILY.load_denoiser(Source("edit-2509", str(tmp_path)))


def test_an_edit_model_asks_for_its_pictures():
    one, several = FAMILY.tiny("edit").text, FAMILY.tiny("edit-2509").text
    for text in (one, several):
        with pytest.raises(ValueError, match="at least one reference picture"):
            FAMILY.embed(text, [PROMPT])
        with pytest.raises(ValueError, match="'make the fox blue' comes with none"):
            FAMILY.embed(text, [PROMPT], [[]])
    with pytest.raises(ValueError, match=r"looks at one picture.*comes with 2.*edit-2509"):
        FAMILY.embed(one, [PROMPT], [[photo(32, 32), photo(32, 32)]])
    given = FAMILY.embed(one, [PROMPT], [[photo(32, 32)]])
    with pytest.raises(ValueError, match="at least one reference picture"):
        FAMILY.call("edit", given, None, guidance=4.0)


@pytest.mark.slow  # in small, tests/contracts/test_sampling.py has it for every variant
@pytest.mark.parametrize("variant", ["edit", "edit-2509"], indirect=True)
def test_references_of_a_megapixel_are_fed_as_the_stock_pipelines_feed_them(variant, monkeypatch):
    monkeypatch.setattr(plus, "VAE_IMAGE_SIZE", MEGAPIXEL)
    monkeypatch.setattr(edit, "calculate_dimensions", lambda *_: (*SIDES(*_), None))
    parts, seen, picture = FAMILY.tiny(variant), [photo(60, 90)], pil(photo(60, 90))
    parts.vae.register_to_config(**{AREA: MEGAPIXEL})
    calls = []
    parts.denoiser.register_forward_pre_hook(
        lambda _, __, given: calls.append(given), with_kwargs=True
    )
    stop = {"callback_on_step_end": lambda pipe, *_: setattr(pipe, "_interrupt", True) or {}}
    plain(FAMILY.pipeline(parts))(
        image=picture if variant == "edit" else [picture],
        prompt=PROMPT,
        height=32,
        width=48,
        num_inference_steps=2,
        generator=torch.Generator().manual_seed(9),
        output_type="latent",
        **stop,
    )
    given = FAMILY.embed(parts.text, [PROMPT], [seen])
    given |= FAMILY.image_conditioning(parts.vae, None, draw(1, 3, 1, 32, 48), seen)
    noise = draw(1, 1, 16, 4, 6, seed=9).transpose(1, 2)
    with torch.no_grad():
        FAMILY.predict(parts.denoiser, noise, calls[0]["timestep"], given)
    assert calls[0]["img_shapes"] == calls[1]["img_shapes"] == [[(1, 2, 3), (1, 52, 78)]]
    for name in ("hidden_states", "encoder_hidden_states"):
        torch.testing.assert_close(calls[1][name], calls[0][name], atol=1e-5, rtol=0)
    sizes = [seeing.pixels(pil(frames), MEGAPIXEL).shape for frames in seen_by("edit-2509")]
    assert sizes == [(1, 3, 1, 832, 1248), (1, 3, 1, 1344, 768)]

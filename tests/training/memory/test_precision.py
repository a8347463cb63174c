"""Float8 storage, attention backends, compiled blocks and tiled VAEs against the plain path."""

import pytest
import torch
from diffusers.models.attention_dispatch import _AttentionBackendRegistry as Registry
from tests.training.memory.test_offload import built, draw, equal, step

from frisket.adapters import lora
from frisket.families.base import FAMILIES
from frisket.families.blocks import blocks_of
from frisket.training.memory import precision


def frozen_of(denoiser):
    return {name: value for name, value in denoiser.named_parameters() if not value.requires_grad}


def test_float8_is_the_plain_path_on_rounded_weights():
    shelf, denoiser, *given = built(checkpointing=True)
    plain = {name: value.detach().clone() for name, value in frozen_of(denoiser).items()}
    precision.store_float8(denoiser, torch.float32)
    narrow = {
        name for name, value in frozen_of(denoiser).items() if value.dtype == precision.FLOAT8
    }
    stored = step(shelf, denoiser, *given)

    shelf, rounded, *given = built(checkpointing=True)
    for name, value in frozen_of(rounded).items():
        if name in narrow:
            value.data = plain[name].to(precision.FLOAT8).float()
    assert equal(stored, step(shelf, rounded, *given))
    assert len(narrow) > len(plain) / 2
    assert all(value.dtype == torch.float32 for value in lora.trainable(denoiser).values())


@pytest.mark.parametrize("family", FAMILIES.names())
def test_every_family_trains_on_float8(family):
    shelf, denoiser, *given = built(family=family, checkpointing=True)
    precision.store_float8(denoiser, torch.float32)
    prediction, gradients = step(shelf, denoiser, *given)
    assert prediction.isfinite().all()
    assert all(each.isfinite().all() for each in gradients)
    kept = {value.dtype for value in frozen_of(denoiser).values()}
    assert kept >= {precision.FLOAT8, torch.float32}


@pytest.mark.parametrize("autocast", [False, True])
def test_float8_in_bfloat16_with_an_adapter_in_float32(autocast):
    shelf, denoiser, *given = built(checkpointing=True)
    for value in frozen_of(denoiser).values():
        value.data = value.data.bfloat16()
    precision.store_float8(denoiser, torch.bfloat16)
    precision.share_inputs(denoiser)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        prediction, gradients = step(shelf, denoiser, *given)
    assert prediction.isfinite().all()
    assert all(each.dtype == torch.float32 and each.abs().sum() > 0 for each in gradients)


@pytest.mark.filterwarnings("ignore:Mismatch dtype")  # of a model that is float32 itself
def test_shared_inputs_are_the_same_numbers_in_less_memory():
    def kept(denoiser, run) -> set[tuple[int, torch.dtype]]:
        seen = set()

        def pack(tensor):
            seen.add((tensor.untyped_storage().data_ptr(), tensor.untyped_storage().nbytes()))
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            return run(denoiser), sum(size for _, size in seen)

    def run(denoiser):
        with torch.autocast("cpu", torch.bfloat16):
            return shelf.predict(denoiser, given[0], torch.tensor([0.3, 0.8]), given[1])

    shelf, denoiser, *given = built()
    before = run(denoiser).detach()
    held, plain = kept(denoiser, run)
    del held
    precision.share_inputs(denoiser)
    after, shared = kept(denoiser, run)
    assert torch.equal(after.detach(), before)
    assert shared < plain
    sampled = shelf.predict(denoiser, given[0], torch.tensor([0.3, 0.8]), given[1])
    assert sampled.isfinite().all()


def test_attention_backends_agree_and_others_keep_theirs():
    shelf, denoiser, *given = built()
    plain, gradients = step(shelf, denoiser, *given)
    before = Registry._active_backend
    precision.set_attention(denoiser, "_native_math")
    assert Registry._active_backend == before
    assert denoiser.blocks[0].attn1.processor._attention_backend == "_native_math"
    other, others = step(shelf, denoiser, *given)
    torch.testing.assert_close(other, plain, rtol=1e-5, atol=1e-6)
    for one, two in zip(others, gradients, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("backend", "said"),
    [("sage", "no gradient"), ("_sage_qk_int8_pv_fp16_cuda", "no gradient"), ("flsh", "not known")],
)
def test_backends_that_cannot_train(backend, said):
    with pytest.raises(ValueError, match=said):
        precision.check_attention(backend)


def test_attention_of_a_model_that_does_not_dispatch():
    _, denoiser, *_ = built(family="pocket")
    with pytest.raises(ValueError, match="does not use diffusers' attention dispatcher"):
        precision.set_attention(denoiser, "native")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # dynamo warns of its own
def test_compiled_blocks_have_the_same_gradients():
    shelf, denoiser, *given = built(checkpointing=True)
    plain = step(shelf, denoiser, *given)
    precision.compile_blocks(denoiser, backend="eager")
    compiled = step(shelf, denoiser, *given)
    assert all(block._compiled_call_impl is not None for block in blocks_of(denoiser).values())
    assert equal(compiled, plain)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_blocks_compiled_by_the_default_backend():
    shelf, denoiser, *given = built()
    plain = step(shelf, denoiser, *given)
    precision.compile_blocks(denoiser)
    prediction, gradients = step(shelf, denoiser, *given)
    torch.testing.assert_close(prediction, plain[0], rtol=1e-3, atol=1e-4)
    for one, two in zip(gradients, plain[1], strict=True):
        torch.testing.assert_close(one, two, rtol=1e-2, atol=1e-4)


def test_tiles_of_a_clip_that_fits_one_change_nothing():
    shelf = FAMILIES.load("wan")
    vae = shelf.tiny(next(iter(shelf.variants))).vae
    clip = draw(1, 3, 5, 32, 48).clamp(-1, 1)
    plain = shelf.encode(vae, clip)
    precision.tile(vae)
    assert torch.equal(shelf.encode(vae, clip), plain)


def test_tiles_agree_with_the_whole_within_their_seams():
    shelf = FAMILIES.load("wan")
    vae = shelf.tiny(next(iter(shelf.variants))).vae
    clip = draw(1, 3, 1, 64, 96).clamp(-1, 1)
    plain = shelf.encode(vae, clip)
    precision.tile(vae)
    vae.enable_tiling(48, 48, 32, 32)
    tiled = shelf.encode(vae, clip)
    assert tiled.shape == plain.shape
    assert float((tiled - plain).square().mean() / plain.square().mean()) < 0.05


def test_a_vae_without_tiles_is_named():
    shelf = FAMILIES.load("pocket")
    with pytest.raises(ValueError, match="PocketVae cannot work in tiles"):
        precision.tile(shelf.tiny("image").vae)


def test_checkpointing_of_a_model_without():
    with pytest.raises(ValueError, match="Linear  cannot checkpoint"):
        precision.checkpoint_blocks(torch.nn.Linear(2, 2))

"""Families whose models are on another device than the data, acted out on a machine without one.

`Away` tensors hold their values on the CPU and say that they are elsewhere; whatever mixes them
with tensors that are here raises, as CUDA does, and results can still be compared.
"""

from contextlib import contextmanager
from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

ELSEWHERE = torch.device("meta")  # the only device besides the CPU that every torch build knows
ATEN = torch.ops.aten
CROSSING = {ATEN._to_copy.default, ATEN.copy_.default, ATEN.index.Tensor, ATEN.index_put_.default}
MAKERS = {torch.tensor, torch.as_tensor, torch.asarray}


class Away(Tensor):
    """A tensor that says it is elsewhere."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> "Away":
        made = torch.Tensor._make_wrapper_subclass(
            cls, held.shape, strides=held.stride(), dtype=held.dtype, device=ELSEWHERE
        )
        made.held = held
        return made

    @classmethod
    def __torch_dispatch__(cls, operation, types, args=(), kwargs=None):
        return run(operation, args, kwargs or {})


def held(value):
    return value.held if isinstance(value, Away) else value


def away(value):
    return Away(value) if isinstance(value, Tensor) and not isinstance(value, Away) else value


def run(operation, args, kwargs):
    """One operation on what the tensors hold; RuntimeError where devices mix."""
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    gone = [tensor for tensor in tensors if isinstance(tensor, Away)]
    here = [tuple(tensor.shape) for tensor in tensors if not isinstance(tensor, Away)]
    if gone and any(here) and operation not in CROSSING:
        raise RuntimeError(f"{operation} mixes devices: {here} are on the CPU")
    goes = bool(gone) and operation is not ATEN._local_scalar_dense.default
    if kwargs.get("device") is not None:
        goes = torch.device(kwargs["device"]) == ELSEWHERE
        kwargs = {**kwargs, "device": torch.device("cpu")}
    made = operation(*tree_map(held, args), **tree_map(held, kwargs))
    if args and isinstance(args[0], Away) and made is args[0].held:
        return args[0]  # in place
    return tree_map(away, made) if goes else made


class Operations(TorchDispatchMode):
    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        return run(operation, args, kwargs or {})


class Functions(TorchFunctionMode):
    """What torch does below the dispatcher: tensors from lists, and lists from tensors."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        given = dict(kwargs or {})
        if function in MAKERS and torch.device(given.get("device") or "cpu") == ELSEWHERE:
            return Away(function(*tree_map(held, args), **{**given, "device": "cpu"}))
        if function is Tensor.tolist:
            return held(args[0]).tolist()
        return function(*args, **given)


@contextmanager
def two_devices():
    with torch.no_grad(), Operations(), Functions():
        yield


def sent(model: nn.Module | None) -> nn.Module | None:
    """A copy of a model elsewhere."""
    if model is None:
        return None
    copy = deepcopy(model)
    for module in copy.modules():
        for name, value in module._parameters.items():
            if value is not None:
                module._parameters[name] = nn.Parameter(Away(value.data), requires_grad=False)
        for name, value in module._buffers.items():
            if value is not None:
                module._buffers[name] = Away(value)
    return copy


def assert_same(found: Tensor, expected: Tensor) -> None:
    assert found.dtype == expected.dtype
    torch.testing.assert_close(held(found), expected, rtol=1e-3, atol=1e-3)


def test_devices_that_mix_are_noticed():
    there, here = Away(torch.ones(2)), torch.ones(2)
    with two_devices():
        assert_same(there + here.to(there.device), 2 * here)
        assert_same(there * torch.tensor([2.0, 2.0], device=there.device), 2 * here)
        assert isinstance(there.sum(), Away)
        assert there.cpu().tolist() == [1.0, 1.0]
        with pytest.raises(RuntimeError, match="mixes devices"):
            there + here
        with pytest.raises(RuntimeError, match="mixes devices"):
            there @ torch.zeros(2)


def test_predict_runs_where_the_denoiser_and_the_latents_are(case):
    denoiser = sent(case.parts.denoiser)
    for frames in case.lengths:
        noisy, t, given = case.latents(frames), case.levels(), case.given(frames=frames)
        plain = case.predict(case.parts.denoiser, frames).detach()
        for levels, told in ((t, given), (Away(t), {k: Away(v) for k, v in given.items()})):
            with two_devices():
                found = case.family.predict(denoiser, Away(noisy), levels, told)
            assert isinstance(found, Away)
            assert_same(found, plain)


def test_encode_and_decode_run_where_the_vae_is(case):
    vae, frames = sent(case.parts.vae), case.lengths[-1]
    clip, latents = case.clip(frames), case.latents(frames)
    for name, value in (("encode", clip), ("decode", latents)):
        with torch.no_grad():
            expected = getattr(case.family, name)(case.parts.vae, value)
        for given in (value, Away(value)):
            with two_devices():
                found = getattr(case.family, name)(vae, given)
            assert isinstance(found, Away) or not any(True for _ in vae.parameters())
            assert_same(found, expected)


def test_observe_runs_where_the_models_are(case):
    vae, vision = sent(case.parts.vae), sent(case.parts.vision)
    observe, pictures = case.family.image_conditioning, case.references()
    for frames in case.lengths:
        clip = case.clip(frames, batch=1)
        expected = observe(case.parts.vae, case.parts.vision, clip, pictures)
        for given in (clip, Away(clip)):
            with two_devices():
                found = observe(vae, vision, given, pictures)
            assert found.keys() == expected.keys()
            for name, value in found.items():
                assert_same(value, expected[name])


def test_what_is_kept_may_lie_beside_a_clip_that_was_sent_on(case):
    clip = case.clip(case.lengths[-1], batch=1)
    keep = torch.zeros(clip.shape[2:])
    keep[:, :, : clip.shape[4] // 2] = 1
    expected = shown(case, case.parts.vae, case.parts.vision, clip, keep)
    vae, vision = sent(case.parts.vae), sent(case.parts.vision)
    with two_devices():
        found = shown(case, vae, vision, Away(clip), keep)
    assert found.keys() == expected.keys()
    for name, value in found.items():
        assert_same(value, expected[name])


def shown(case, vae, vision, clip, keep):
    """What is observed of a clip with `keep`; nothing where a model has no input for that."""
    try:
        return case.family.image_conditioning(vae, vision, clip, case.references(), keep)
    except ValueError as error:
        if "no mask channels" not in str(error):
            raise
        return {}


def test_embed_runs_where_the_text_encoder_is(case):
    prompts = ["a red fox on a stone wall", ""]
    seen = [case.references(index) for index in range(len(prompts))]
    expected = case.family.embed(case.parts.text, prompts, seen)
    text = sent(case.parts.text)
    with two_devices():
        found = case.family.embed(text, prompts, seen)
    assert found.keys() == expected.keys()
    for name, value in found.items():
        assert_same(value, expected[name])

"""What is captured of every family's attention is what its layers computed."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
import torch
from tests.contracts.conftest import Case
from torch import Tensor, nn
from torch.nn import functional

from frisket.attention.base import AttentionLayer, Projections
from frisket.attention.capture import capture
from frisket.families.base import Conditioning
from frisket.families.experts import experts_of

# Each sample's own: a phrase of one token, and one of two that do not touch.
PHRASES = [[[1], [0, 2]], [[0], [1, 3]]]
CLOSE = {"atol": 1e-5, "rtol": 1e-5}


@dataclass
class Kernel:
    """One call of the attention kernel (b heads n d), and what came back."""

    query: Tensor
    key: Tensor
    mask: Tensor | None
    scale: float | None
    output: Tensor

    def softmax(self) -> Tensor:
        """The whole of it, b heads n m, float64."""
        query, key = self.query.double(), self.key.double()
        scale = query.shape[-1] ** -0.5 if self.scale is None else self.scale
        logits = query @ key.mT * scale
        if self.mask is not None:
            logits = logits.masked_fill(~self.mask, -torch.inf)
        return logits.softmax(-1)


@contextmanager
def record_kernels(layers: tuple[AttentionLayer, ...]) -> Iterator[dict[str, list[Kernel]]]:
    """Independent of the taps: torch's own kernel is listened to while a layer's module runs."""
    calls: dict[str, list[Kernel]] = {layer.name: [] for layer in layers}
    current: list[str] = []
    handles = []
    for layer in layers:
        enter = layer.module.register_forward_pre_hook(
            lambda *_, name=layer.name: current.append(name)
        )
        leave = layer.module.register_forward_hook(lambda *_: current.clear())
        handles += [enter, leave]
    kernel = functional.scaled_dot_product_attention

    def listen(query, key, value, attn_mask=None, *args, scale=None, **kwargs):
        output = kernel(query, key, value, attn_mask, *args, scale=scale, **kwargs)
        if current:
            calls[current[-1]].append(Kernel(query, key, attn_mask, scale, output))
        return output

    functional.scaled_dot_product_attention = listen
    try:
        yield calls
    finally:
        functional.scaled_dot_product_attention = kernel
        for handle in handles:
            handle.remove()


@dataclass
class Sample:
    """One sample of a batch of two."""

    noisy: Tensor
    t: Tensor
    given: Conditioning

    def predict(self, case: Case, denoiser: nn.Module) -> Tensor:
        return case.family.predict(denoiser, self.noisy, self.t, self.given)


def split_batch(case: Case, frames: int) -> list[Sample]:
    noisy, t, given = case.latents(frames), case.levels(), case.given(frames=frames)
    return [
        Sample(
            noisy[row : row + 1],
            t[row : row + 1],
            {name: value[row : row + 1] for name, value in given.items()},
        )
        for row in range(2)
    ]


def find_model(denoiser: nn.Module) -> nn.Module:
    """The one that takes the levels of the tests."""
    return next(iter(experts_of(denoiser).values()))


def count_hooks(denoiser: nn.Module) -> int:
    return sum(
        len(module._forward_hooks) + len(module._forward_pre_hooks) for module in denoiser.modules()
    )


def find_columns(case: Case, sample: Sample, kernel: Kernel, kind: str, cells: int) -> Tensor:
    """Which of the kernel's keys are the prompt's, in the order of the conditioning's text axis.

    From what is known of each model, not from the taps.
    """
    if kind == "cross":
        return torch.arange(kernel.key.shape[2])
    texts = sample.given
    length = texts["text"].shape[1]
    for mask in ("mask", "text_mask"):
        length = int(texts[mask].sum()) if mask in texts else length
    start = cells
    if case.family.name in {"flux", "flux2", "qwen_image", "qwen_image_21"}:
        start = 0
    elif case.family.name == "z_image":
        start = cells + -cells % 32  # the picture is filled up to whole rows of 32 tokens
    elif "glyphs" in texts:  # and what is shown, where anything is: both come before the text
        start = cells + int(texts["glyphs_mask"].sum())
        image = texts.get("image")
        start += image.shape[1] if image is not None and image.any() else 0
    return torch.arange(start, start + length)


def test_maps_are_the_layers_own_softmax(case: Case):
    frames = case.lengths[-1]
    denoiser = case.parts.denoiser
    assert denoiser is not None
    layers = case.family.list_attention_layers(find_model(denoiser))
    assert layers
    with torch.no_grad(), capture(layers, PHRASES) as seen:
        case.predict(denoiser, frames)
    assert list(seen.maps) == [layer.name for layer in layers]
    assert len(seen.calls) == 1
    for row, sample in enumerate(split_batch(case, frames)):
        with torch.no_grad(), record_kernels(layers) as calls:
            sample.predict(case, denoiser)
        for layer in layers:
            kernel = calls[layer.name][-1]
            maps = seen.maps[layer.name][row].flatten(1)
            columns = find_columns(case, sample, kernel, layer.kind, maps.shape[1])
            full = kernel.softmax()[0].mean(0)
            # The picture's own rows: the kernel has the text's and references' beside them.
            image = slice(None) if layer.kind == "cross" else find_image(case, columns, maps)
            for index, positions in enumerate(PHRASES[row]):
                expected = full[image][:, columns[positions]].sum(1).float()
                torch.testing.assert_close(maps[index], expected, **CLOSE)


def find_image(case: Case, columns: Tensor, maps: Tensor) -> slice:
    """The rows of the picture: the first, or those after the text; the last for Qwen-Image 2.1."""
    count = maps.shape[1]
    if case.family.name == "qwen_image_21":
        return slice(-count, None)  # the kernel is called for the picture alone
    start = int(columns[-1]) + 1 if columns[0] == 0 else 0
    return slice(start, start + count)


def test_what_a_layer_multiplied_gives_what_it_gave(case: Case):
    frames = case.lengths[-1]
    denoiser = case.parts.denoiser
    assert denoiser is not None
    layers = case.family.list_attention_layers(find_model(denoiser))
    read: dict[str, Projections] = {}
    removers = [
        layer.tap(lambda projections, name=layer.name: read.update({name: projections}))
        for layer in layers
    ]
    sample = split_batch(case, frames)[0]
    with torch.no_grad(), record_kernels(layers) as calls:
        sample.predict(case, denoiser)
    for remove in removers:
        remove()
    for layer in layers:
        taken = read[layer.name]
        query, key, value = (
            tensor.transpose(1, 2) for tensor in (taken.query, taken.key, taken.value)
        )
        mask = None if taken.present is None else taken.present[:, None, None]
        output = functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, scale=taken.scale
        )
        output = output.transpose(1, 2).flatten(2)
        if taken.image_output is not None:
            torch.testing.assert_close(output, taken.image_output, **CLOSE)
        if taken.text_output is not None:
            kernel = calls[layer.name][-1]
            whole = torch.cat([call.output for call in calls[layer.name]], 2)
            rows = whole.transpose(1, 2).flatten(2)
            columns = find_columns(case, sample, kernel, layer.kind, taken.query.shape[1])
            text = taken.text_output[:, : len(columns)]
            torch.testing.assert_close(text, rows[:, columns], **CLOSE)


def test_a_denoiser_is_the_same_before_within_and_after(case: Case):
    denoiser = case.parts.denoiser
    assert denoiser is not None
    layers = case.family.list_attention_layers(find_model(denoiser))
    hooks = count_hooks(denoiser)
    with torch.no_grad():
        before = case.predict(denoiser)
        with capture(layers, PHRASES) as seen:
            within = case.predict(denoiser)
            assert count_hooks(denoiser) > hooks
        after = case.predict(denoiser)
    torch.testing.assert_close(within, before, rtol=0, atol=0)
    torch.testing.assert_close(after, before, rtol=0, atol=0)
    assert len(seen.calls) == 1
    with pytest.raises(RuntimeError, match="stop"), capture(layers, PHRASES):
        raise RuntimeError("stop")
    assert count_hooks(denoiser) == hooks


def test_gradients_under_checkpointing_are_those_without(case: Case, denoiser: nn.Module):
    model = find_model(denoiser)
    layers = case.family.list_attention_layers(model)

    def compute_gradients() -> dict[str, Tensor]:
        denoiser.train().requires_grad_(True)
        denoiser.zero_grad()
        with capture(layers, PHRASES) as seen:
            prediction = case.predict(denoiser)
        maps = seen.maps.values()
        # After the block: no hook is there any more when the blocks are computed again.
        (prediction.square().mean() + sum(one.square().mean() for one in maps)).backward()
        assert len(seen.calls) == 1
        return {
            name: value.grad.clone()
            for name, value in model.named_parameters()
            if value.grad is not None
        }

    plain = compute_gradients()
    model.enable_gradient_checkpointing()  # type: ignore[operator]
    again = compute_gradients()
    assert plain.keys() == again.keys()
    for name, gradient in plain.items():
        torch.testing.assert_close(again[name], gradient, msg=name, **CLOSE)


def test_a_map_alone_reaches_queries_and_keys_within_the_block(case: Case, denoiser: nn.Module):
    """Backward within the block, when the hooks are called again as a block is computed again."""
    model = find_model(denoiser)
    model.enable_gradient_checkpointing()  # type: ignore[operator]
    denoiser.train().requires_grad_(True)
    layer = case.family.list_attention_layers(model)[-1]
    with capture([layer], PHRASES) as seen:
        case.predict(denoiser)
        maps = seen.maps[layer.name]
        maps.square().mean().backward()
        assert list(seen.maps) == [layer.name]
        assert len(seen.calls) == 1
    reached = [
        name
        for name, value in layer.module.named_parameters()
        if value.grad is not None and value.grad.any()
    ]
    assert any("to_q" in name or "to_qkv" in name for name in reached)

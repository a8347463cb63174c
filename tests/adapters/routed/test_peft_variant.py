"""The seam in peft's LoRA layers, and factors laid on rows and cells."""

from copy import deepcopy
from importlib.metadata import version

import pytest
import torch
from peft.tuners.lora.layer import LoraLayer, LoraVariant
from tests.adapters.routed import t_lora_scene as scene
from torch import nn

from frisket.adapters import lora
from frisket.adapters.routed.calls import find_calls
from frisket.adapters.routed.factors import Factors
from frisket.adapters.routed.laying import RoutingError, lay_rows, lay_space, lay_tokens
from frisket.adapters.routed.peft_variant import CannotRoute, RoutedLora, find_factors, route
from frisket.adapters.routed.schedule import RankSchedule
from frisket.adapters.spec import ADAPTER
from frisket.families.routes import KeptTokens
from frisket.families.shared.streams.planes import order_text
from frisket.families.shared.streams.unet import UNetStreams
from frisket.families.streams import DenoiserCall, Rows

TARGETS = (r"/attn\d\.(to_[qkv]|to_out\.0)$|proj_in$|conv1$/",)


def build(kind: str = "lora", **options) -> nn.Module:
    unet = scene.build_unet()
    lora.attach(unet, lora.LoraSpec(kind, rank=4, targets=TARGETS, **options), seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for value in lora.trainable(unet).values():
            value.add_(0.1 * torch.randn(value.shape, generator=generator))
    return unet.eval()


def run(unet: nn.Module) -> torch.Tensor:
    inputs = scene.draw_inputs()
    return unet(inputs["sample"], inputs["timestep"], inputs["text"], return_dict=False)[0]


def call_of(cells=(1, 4, 4), count=2, **options) -> DenoiserCall:
    return DenoiserCall(torch.zeros(count), cells, torch.zeros(count, 5, 2), **options)


def test_pefts_private_names_are_those_the_seam_was_written_for():
    major, minor = map(int, version("peft").split(".")[:2])
    assert (major, minor) >= (0, 17), "older ones have other variants: raise pyproject's bound"
    layer = build().get_submodule("mid_block.attentions.0.transformer_blocks.0.attn1.to_q")
    assert isinstance(layer, LoraLayer)
    assert layer.lora_variant == {}
    assert issubclass(RoutedLora, LoraVariant)
    for name in ("lora_A", "lora_B", "lora_dropout", "scaling", "lora_magnitude_vector"):
        assert hasattr(layer, name), name
    calls = []

    class Witness(RoutedLora):
        def forward(self, module, active_adapter, x, result, **kwargs):
            calls.append((module is layer, active_adapter))
            return super().forward(module, active_adapter, x, result, **kwargs)

    layer.lora_variant[ADAPTER] = Witness(Factors())
    layer(torch.zeros(1, 3, layer.in_features))
    assert calls == [(True, ADAPTER)]


def test_other_forms_are_refused_in_words():
    with pytest.raises(CannotRoute, match="a DoRA rescales the whole weight"):
        route(build("dora"), UNetStreams())
    with pytest.raises(CannotRoute, match="a loha adapter has no ranks between two factors"):
        route(build("loha"), UNetStreams())
    with pytest.raises(CannotRoute, match="has no LoRA called 'other'"):
        route(build(), UNetStreams(), adapter="other")
    with pytest.raises(CannotRoute, match="has no LoRA called 'default'"):
        route(scene.build_unet(), UNetStreams())


@torch.no_grad()
def test_copies_have_factors_and_calls_of_their_own():
    unet = build()
    factors = route(unet, UNetStreams())
    factors.space = torch.ones(1, 1, 1, 8, 8)
    plain = run(unet)
    copy = deepcopy(unet)
    own = find_factors(copy)
    assert own is not factors
    own.space = torch.zeros(1, 1, 1, 8, 8)
    assert not torch.equal(run(copy), plain)
    assert torch.equal(run(unet), plain)
    assert find_calls(copy).record is not find_calls(unet).record


@torch.no_grad()
def test_a_module_called_by_itself_says_what_it_misses():
    unet = build()
    route(unet, UNetStreams()).ranks = RankSchedule(1)
    layer = next(module for module in unet.modules() if hasattr(module, "lora_A"))
    with pytest.raises(RoutingError, match="outside a call of its denoiser"):
        layer(torch.zeros(1, 32, 8, 8))


@torch.no_grad()
def test_a_factor_of_another_grid_or_batch_is_refused_by_name():
    unet = build()
    factors = route(unet, UNetStreams())
    factors.space = torch.ones(1, 1, 1, 4, 4)
    with pytest.raises(RoutingError, match=r"its space is \(1, 4, 4\) cells"):
        run(unet)
    factors.space = torch.ones(3, 1, 1, 8, 8)
    with pytest.raises(RoutingError, match="of 3 samples, the call of 2"):
        run(unet)


def test_a_plane_is_laid_on_coarser_layers_by_area_and_repeats_for_guidance():
    space = torch.zeros(1, 1, 1, 4, 4)
    space[..., :1, :] = 1
    rows = lay_rows("image", 4, call_of(), None, space)
    assert rows[0, :, 0].tolist() == [0.5, 0.5, 0, 0]
    own = torch.stack([torch.zeros(1, 1, 4, 4), torch.ones(1, 1, 4, 4)])
    laid = lay_space(call_of(count=4), own, (1, 4, 4))
    assert laid.flatten(1)[:, 0].tolist() == [0, 1, 0, 1]
    with pytest.raises(RoutingError, match="works on 5 rows, which is no halving"):
        lay_rows("image", 5, call_of(), None, space)
    assert lay_rows("image", 4, call_of(), torch.ones(1, 5), None) is None
    assert lay_rows("apart", 4, call_of(), torch.ones(1, 5), space) is None


def test_frames_may_be_rows_of_the_batch_or_channels():
    space = torch.stack([torch.zeros(1, 4, 4), torch.ones(1, 4, 4)], 1)[None]
    rows = lay_space(call_of(frames="rows"), space, (1, 4, 4))
    assert rows.flatten(1).mean(1).tolist() == [0, 1]
    channels = lay_space(call_of(frames="channels"), space, (1, 4, 4))
    assert channels.min() == 1


def test_a_joint_sequence_takes_each_factor_where_it_belongs():
    parts = (Rows("text", 3), Rows("image", 4, (1, 2, 2)), Rows("padding", 1), Rows("other", 1))
    call = call_of(count=1, sequences={"joint": parts})
    tokens = torch.tensor([[0.0, 1.0]])  # the last one holds for the padding after it
    space = torch.zeros(1, 1, 1, 4, 4)
    space[..., :2, :2] = 1
    laid = lay_rows("joint", 9, call, tokens, space)[0, :, 0]
    assert laid.tolist() == [0, 1, 1, 1, 0, 0, 0, 0.25, 1]
    assert lay_rows("joint", 9, call, None, space)[0, :3, 0].tolist() == [1, 1, 1]
    with pytest.raises(RoutingError, match="works on 8 rows, and the call has 3 text"):
        lay_rows("joint", 8, call, tokens, space)
    with pytest.raises(RoutingError, match=r"leave it out with lora\.exclude"):
        lay_rows("flat", 9, call, tokens, None)


def test_a_routed_block_has_the_factors_of_the_rows_that_stay():
    parts = (Rows("text", 2), Rows("image", 4, (1, 2, 2)), Rows("padding", 1), Rows("other", 1))
    call = call_of(count=2, sequences={"joint": parts, "text": parts[:1]})
    kept_tokens = KeptTokens(torch.tensor([[0, 3], [1, 2]]), call)
    tokens = torch.tensor([[0.0, 1.0]])
    space = torch.arange(4.0).view(1, 1, 1, 2, 2).repeat_interleave(2, 3).repeat_interleave(2, 4)
    laid = lay_rows("joint", 6, call, tokens, space, kept_tokens=kept_tokens)[..., 0]
    assert laid.tolist() == [[0, 1, 0, 3, 1.5, 1], [0, 1, 1, 2, 1.5, 1]]
    whole = lay_rows(
        "joint", 8, call, tokens, space, kept_tokens=kept_tokens
    )  # outside of the window
    assert torch.equal(whole, lay_rows("joint", 8, call, tokens, space))
    text = lay_rows("text", 2, call, tokens, space, kept_tokens=kept_tokens)
    assert torch.equal(text, lay_rows("text", 2, call, tokens, space))
    with pytest.raises(RoutingError, match="works on 7 rows, and the call has 2 text"):
        lay_rows("joint", 7, call, tokens, space, kept_tokens=kept_tokens)


def test_text_that_a_model_reorders_is_followed():
    text = torch.tensor([[1, 1, 0], [1, 0, 0]])
    glyphs = torch.tensor([[1], [0]])
    order = order_text(text, glyphs, torch.zeros(2, 0, 4))
    assert order.tolist() == [[-1, 0, 1, 2], [0, -1, 1, 2]]
    call = call_of(sequences={"text": (Rows("text", 4),)}, order=order)
    laid = lay_tokens(call, torch.tensor([[0.5, 0.25, 0.0]]), "text", 4)
    assert laid.tolist() == [[1, 0.5, 0.25, 0], [0.5, 1, 0.25, 0]]


@torch.no_grad()
def test_two_adapters_of_disjoint_places_do_not_touch_each_others():
    inside = torch.zeros(1, 1, 1, 8, 8)
    inside[..., :4] = 1
    seen = {}
    for name, place in (("left", inside), ("right", 1 - inside)):
        unet = build()
        factors = route(unet, UNetStreams())
        factors.space = place
        updates = seen[name] = {}

        def observe(module, _, update, updates=updates):
            if "attn1.to_q" in module:
                updates[module] = update.abs().amax(-1).unflatten(1, (4, 4))

        factors.observer = observe
        run(unet)
    assert seen["left"]
    for module, left in seen["left"].items():
        right = seen["right"][module]
        assert not left[..., 2:].any()
        assert not right[..., :2].any()
        assert left[..., :2].any()

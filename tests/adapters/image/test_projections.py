from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.adapters.image import scene

from frisket.adapters.image.projections import ResamplerProjection
from frisket.adapters.image.uniid import UniIdAdapterProjection
from frisket.adapters.spec import AdapterMismatch

PEER = load_file(Path(__file__).with_name("peer.safetensors"))
INPUTS = scene.draw_inputs()


@pytest.fixture(scope="module")
def projections():
    return scene.build_projections()


def run(projections, kind):
    with torch.no_grad():
        return projections[kind](*scene.list_inputs(kind, INPUTS))


@pytest.mark.parametrize("kind", [k for k in PEER if "/" not in k])
def test_agrees_with_the_authors_module(projections, kind):
    tokens = run(projections, kind)
    assert tokens.std() > 0.1
    torch.testing.assert_close(tokens, PEER[kind], atol=1e-5, rtol=0)


def test_the_text_branch_agrees_with_the_authors(projections):
    for number, tokens in enumerate(run(projections, "uniid-text"), 1):
        assert tokens.shape[1] == 3
        torch.testing.assert_close(tokens, PEER[f"uniid-text/{number}"], atol=1e-5, rtol=0)


def test_the_shortcut_and_its_scale_change_the_tokens(projections):
    first, second = (run(projections, kind) for kind in ("faceid-plus", "faceid-plusv2"))
    assert (first - second).abs().max() > 0.1


@pytest.mark.parametrize("kind", ["base", "faceid", "instantid", "uniid-adapter"])
def test_zeros_are_the_unconditional_row(projections, kind):
    tokens = projections[kind].project_negative(*scene.list_inputs(kind, INPUTS))
    torch.testing.assert_close(tokens, PEER[f"{kind}/negative"], atol=1e-5, rtol=0)


def test_the_zero_image_is_the_unconditional_row_of_those_that_read_clips_tokens(projections):
    states = INPUTS["states"]
    for kind in ("plus", "full"):
        tokens = projections[kind].project_negative(states, states[:1])
        for row in tokens:
            torch.testing.assert_close(row, projections[kind](states[:1])[0], atol=1e-5, rtol=0)
        with pytest.raises(ValueError, match="zero image"):
            projections[kind].project_negative(states)
    tokens = projections["faceid-plus"].project_negative(INPUTS["unit"], states[:1])
    torch.testing.assert_close(tokens, PEER["faceid-plus/negative"], atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", list(scene.BUILDERS))
def test_rows_of_a_batch_do_not_touch(projections, kind):
    def turn(value):
        return [turn(part) for part in value] if isinstance(value, list) else value.flip(0)

    inputs = scene.list_inputs(kind, INPUTS)
    turned = [value if isinstance(value, float) else turn(value) for value in inputs]
    with torch.no_grad():
        tokens, other = projections[kind](*inputs), projections[kind](*turned)
    pairs = zip(tokens, other, strict=True) if isinstance(tokens, tuple) else [(tokens, other)]
    for tensor, flipped in pairs:
        torch.testing.assert_close(tensor, flipped.flip(0), atol=1e-5, rtol=0)


def test_the_order_of_image_tokens_does_not_matter(projections):
    states = INPUTS["states"]
    torch.testing.assert_close(
        projections["plus"](states), projections["plus"](states.flip(1)), atol=1e-5, rtol=0
    )


def test_a_new_adapter_branch_of_uniid_makes_zero_tokens():
    branch = UniIdAdapterProjection(64, tokens=5, hidden=64)
    (maps,) = scene.list_inputs("uniid-adapter", INPUTS)
    assert torch.equal(branch(maps), torch.zeros(2, 5, 64))
    with pytest.raises(AdapterMismatch, match="another recognition network"):
        branch(maps[1:])


def test_a_width_that_is_no_multiple_of_a_head_is_refused():
    with pytest.raises(AdapterMismatch, match="40 channels wide; its heads have 64 each"):
        ResamplerProjection(24, 64, hidden=40)

"""Sums with adapters, against the dense matrices they stand for."""

import pytest
import torch
from diffusers import WanTransformer3DModel
from safetensors.torch import load_file, save_file
from torch import Tensor

from frisket.adapters import arithmetic, lora, merge
from frisket.adapters.arithmetic import delta
from frisket.adapters.layers import MAGNITUDE, A, B, Layer
from frisket.adapters.lora import AdapterMismatch, LoraSpec


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def low_rank(
    rank: int = 4, alpha: float | None = 2.0, seed: int = 0, kernel: tuple[int, ...] = ()
) -> Layer:
    ones = [1] * len(kernel)
    tensors = {A: random(rank, 10, *kernel, seed=seed), B: random(12, rank, *ones, seed=seed + 1)}
    return Layer("lora", tensors, rank, alpha)


@pytest.mark.parametrize("kind", ["lora", "loha", "lokr"])
def test_the_dense_change_is_pefts(kind):
    from peft.tuners.tuners_utils import BaseTunerLayer

    from frisket.adapters.lora import layers_of

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(12, 20), torch.nn.Conv2d(4, 6, 3))
    spec = LoraSpec(kind, rank=2, alpha=3.0, targets=("/.*/",))
    lora.attach(model, spec, seed=0)
    with torch.no_grad():
        for index, value in enumerate(lora.trainable(model).values()):
            value.add_(random(*value.shape, seed=index))
    found = layers_of(model, spec)
    for name, module in model.named_modules():
        if isinstance(module, BaseTunerLayer):
            wanted = module.get_delta_weight("default")
            torch.testing.assert_close(delta(found[name], wanted.shape), wanted)


@pytest.mark.parametrize("factor", [0.5, -2.0])
def test_scale_is_exact(factor):
    scaled = arithmetic.scale({"x": low_rank()}, factor)["x"]
    assert torch.equal(scaled.low, low_rank().low)
    torch.testing.assert_close(delta(scaled), factor * delta(low_rank()))
    with pytest.raises(ValueError, match="scale 0"):
        arithmetic.scale({"x": low_rank()}, 0.0)


@pytest.mark.parametrize("kernel", [(), (3, 3), (1, 2, 2)])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_resize_is_the_best_of_its_rank_and_says_what_it_keeps(rank, kernel):
    layer = low_rank(kernel=kernel)
    made, kept = arithmetic.resize({"x": layer}, rank)
    dense, values = delta(layer), torch.linalg.svdvals(delta(layer))
    assert made["x"].low.shape == (rank, 10, *kernel)
    assert made["x"].high.shape == (12, rank, *[1] * len(kernel))
    error = (delta(made["x"]) - dense).norm()
    torch.testing.assert_close(error, values[rank:].norm(), rtol=1e-4, atol=1e-5)  # Eckart-Young
    share = float(values[:rank].square().sum() / values.square().sum())
    assert kept.least == pytest.approx(share, abs=1e-5)


def test_a_higher_rank_loses_nothing():
    made, kept = arithmetic.resize({"x": low_rank()}, 7)
    assert made["x"].rank == 7
    assert kept.least == pytest.approx(1.0)
    torch.testing.assert_close(delta(made["x"]), delta(low_rank()), rtol=1e-4, atol=1e-5)


def test_averages():
    first, second = low_rank(4, 2.0), low_rank(3, None, seed=5)
    dense = 0.7 * delta(first) + 0.3 * delta(second)
    pair = [{"x": first, "y": first}, {"x": second}]
    whole, kept = arithmetic.average(pair, [0.7, 0.3], exact=True)
    assert (whole["x"].rank, whole["y"].rank, kept.least) == (7, 7, 1.0)
    torch.testing.assert_close(delta(whole["x"]), dense)
    torch.testing.assert_close(delta(whole["y"]), 0.7 * delta(first))
    cut, kept = arithmetic.average(pair, [0.7, 0.3])
    assert cut["x"].rank == 4
    best = torch.linalg.svdvals(dense)[4:].norm()
    torch.testing.assert_close((delta(cut["x"]) - dense).norm(), best, rtol=1e-4, atol=1e-5)
    assert kept.worst == "x"
    assert kept.least < 1
    with pytest.raises(ValueError, match="2 adapters need as many weights, not 1"):
        arithmetic.average(pair, [1.0])


def test_extract_finds_a_change_of_low_rank():
    base = random(12, 10, seed=9)
    found, share = arithmetic.extract(base, base + delta(low_rank()), 4)
    assert share == pytest.approx(1.0)
    torch.testing.assert_close(delta(found), delta(low_rank()), rtol=1e-3, atol=1e-4)


def test_extract_of_a_large_layer_is_nearly_the_best_and_leaves_the_generator_alone():
    noise = 0.05 * random(600, 700, seed=1)
    change = random(600, 8, seed=2) @ random(8, 700, seed=3) / 8 + noise
    before = torch.get_rng_state()
    found, share = arithmetic.extract(torch.zeros(600, 700), change, 8)
    assert torch.equal(torch.get_rng_state(), before)
    values = torch.linalg.svdvals(change)
    assert share == pytest.approx(
        float(values[:8].square().sum() / values.square().sum()), rel=1e-4
    )
    assert (delta(found) - change).norm() <= 1.001 * values[8:].norm()


@pytest.mark.parametrize("kind", ["lora", "dora", "loha", "lokr"])
def test_a_merged_model_is_the_adapted_one(tmp_path, kind):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = WanTransformer3DModel(
            num_attention_heads=1, attention_head_dim=12, text_dim=8, ffn_dim=8, num_layers=1
        ).eval()
    model.save_pretrained(tmp_path / "base")
    model.save_pretrained(tmp_path / "merged")
    given = {
        "hidden_states": random(1, 16, 1, 4, 4),
        "timestep": torch.tensor([500.0]),
        "encoder_hidden_states": random(1, 3, 8),
    }
    spec = LoraSpec(kind, rank=2, alpha=3.0, targets=("to_q", "ffn.net.2"))
    lora.attach(model, spec, seed=0)
    with torch.no_grad():
        for index, value in enumerate(lora.trainable(model).values()):
            value.add_(0.3 * random(*value.shape, seed=index))
        wanted = model.eval()(**given).sample
        from frisket.adapters.lora import layers_of

        layers = layers_of(model, spec)
        survived = merge.merge(layers, tmp_path / "merged")
        found = WanTransformer3DModel.from_pretrained(tmp_path / "merged").eval()(**given).sample
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    assert survived.layers == 3
    assert survived.share == pytest.approx(1, abs=1e-5)
    if kind == "lora":
        out, kept = merge.extract_adapter(tmp_path / "base", tmp_path / "merged", 2, lambda _: True)
        assert out.keys() == layers.keys()
        assert kept.least == pytest.approx(1.0)
        for name, layer in layers.items():
            torch.testing.assert_close(delta(out[name]), delta(layer), rtol=1e-3, atol=1e-4)


def test_a_merge_keeps_the_weights_dtype_and_every_other_byte(tmp_path):
    values = {"x.weight": random(12, 10).bfloat16(), "y.weight": random(3, 3), "x.bias": random(12)}
    save_file(values, tmp_path / "w.safetensors", {"format": "pt"})
    merge.merge({"x": low_rank()}, tmp_path)
    found = load_file(tmp_path / "w.safetensors")
    assert torch.equal(
        found["x.weight"], (values["x.weight"].float() + delta(low_rank())).bfloat16()
    )
    assert all(torch.equal(found[key], values[key]) for key in ("y.weight", "x.bias"))


def test_what_does_not_fit_is_named(tmp_path):
    save_file({"x.weight": random(5, 5)}, tmp_path / "w.safetensors")
    with pytest.raises(AdapterMismatch, match=r"lacks 1 of the adapter's 1 layers, .* y"):
        merge.merge({"y": low_rank()}, tmp_path)
    with pytest.raises(AdapterMismatch, match=r"x.weight is \(5, 5\) in .*12 x 10 in the adapter"):
        merge.merge({"x": low_rank()}, tmp_path)
    dora = Layer("dora", {**low_rank().tensors, MAGNITUDE: random(12)}, 4, 4.0)
    for doing in (
        lambda: arithmetic.resize({"x": dora}, 2),
        lambda: arithmetic.scale({"x": dora}, 2.0),
    ):
        with pytest.raises(AdapterMismatch, match="a dora cannot be"):
            doing()


def model_of(folder, dtype: torch.dtype, extra: str = ""):
    """One wide layer in a dtype."""
    folder.mkdir()
    values = {"x.weight": random(96, 80).to(dtype), "y.weight": random(4, 4)}
    if extra:
        values[extra] = torch.ones(1)
    save_file(values, folder / "w.safetensors")
    return values["x.weight"].float()


def sized(share: float, weight: torch.Tensor) -> Layer:
    """An adapter whose change is `share` of a weight's length."""
    low, high = random(4, 80, seed=2), random(96, 4, seed=3)
    high *= share * weight.norm() / (high @ low).norm()
    return Layer("lora", {A: low, B: high}, 4)


def test_a_merge_says_what_the_dtype_kept(tmp_path):
    said = {}
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        for share in (0.1, 0.001):
            folder = tmp_path / f"{dtype}{share}"
            weight = model_of(folder, dtype)
            layer = sized(share, weight)
            survived = merge.merge({"x": layer}, folder)
            change = load_file(folder / "w.safetensors")["x.weight"].float() - weight
            along = float((change * delta(layer)).sum() / delta(layer).square().sum())
            assert survived.share == pytest.approx(along, rel=1e-3)
            assert survived.values == pytest.approx(float((change != 0).float().mean()))
            said[dtype, share] = survived
    assert said[torch.float32, 0.001].share == pytest.approx(1, abs=1e-3)
    assert said[torch.float16, 0.001].share > 0.9
    assert 0.3 < said[torch.bfloat16, 0.001].share < 0.8
    assert said[torch.bfloat16, 0.001].values < 0.3
    assert said[torch.bfloat16, 0.1].share > 0.99
    assert "bfloat16" in str(said[torch.bfloat16, 0.1])
    assert "of the change kept" in str(said[torch.bfloat16, 0.1])


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.int8])
def test_a_merge_into_codes_is_refused_before_anything_is_written(tmp_path, dtype):
    folder = tmp_path / "model"
    weight = model_of(folder, dtype)
    before = (folder / "w.safetensors").read_bytes()
    with pytest.raises(AdapterMismatch, match=r"x\.weight in (F8_E4M3|F8_E5M2|I8), in which"):
        merge.merge({"x": sized(0.1, weight)}, folder)
    assert (folder / "w.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    "key", ["x.scale_weight", "scaled_fp8", "x.weight_scale", "x.weight.absmax", "x.comfy_quant"]
)
def test_a_merge_into_scaled_weights_is_refused(tmp_path, key):
    weight = model_of(tmp_path / "model", torch.bfloat16, key)
    with pytest.raises(AdapterMismatch, match=f"is quantised .*{key}.*quantise the result"):
        merge.merge({"x": sized(0.1, weight)}, tmp_path / "model")


def test_a_merge_that_overflows_is_refused(tmp_path):
    weight = model_of(tmp_path / "model", torch.float16)
    with pytest.raises(AdapterMismatch, match=r"x in w\.safetensors: .*not finite in float16"):
        merge.merge({"x": sized(1e7, weight)}, tmp_path / "model")


def test_an_average_of_two_models_adapters_names_the_layer():
    other = Layer("lora", {A: random(2, 6), B: random(12, 2)}, 2)
    with pytest.raises(AdapterMismatch, match="x is 12 x 6 and 12 x 10 in them"):
        arithmetic.average([{"x": low_rank()}, {"x": other}], [1.0, 1.0])


@pytest.mark.parametrize("rank", [0, -1, 10**9])
def test_a_rank_that_is_none_is_refused(rank):
    with pytest.raises(ValueError, match=f"rank {rank} is none"):
        arithmetic.resize({"x": low_rank()}, rank)


def test_what_is_damaged_or_not_finite_in_a_model_is_named(tmp_path):
    weight = model_of(tmp_path / "base", torch.float32)
    model_of(tmp_path / "tuned", torch.float32)
    values = load_file(tmp_path / "tuned" / "w.safetensors")
    values["x.weight"][3, 4] = torch.nan
    save_file(values, tmp_path / "tuned" / "w.safetensors")
    with pytest.raises(AdapterMismatch, match=r"tuned.*x\.weight has values that are not finite"):
        merge.extract_adapter(tmp_path / "base", tmp_path / "tuned", 2, lambda _: True)
    with pytest.raises(AdapterMismatch, match="the merged weight has values that are not finite"):
        merge.merge({"x": sized(0.1, weight)}, tmp_path / "tuned")
    (tmp_path / "tuned" / "w.safetensors").write_bytes(b"x" * 100)
    for doing in (
        lambda: merge.extract_adapter(tmp_path / "base", tmp_path / "tuned", 2, lambda _: True),
        lambda: merge.check({"x": sized(0.1, weight)}, tmp_path / "tuned"),
    ):
        with pytest.raises(AdapterMismatch, match=r"w\.safetensors is cut short or no safetensors"):
            doing()

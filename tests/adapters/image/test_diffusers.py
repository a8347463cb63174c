import copy

import pytest
import torch
from diffusers import FluxTransformer2DModel, SD3Transformer2DModel
from diffusers.models.embeddings import IPAdapterTimeImageProjection
from tests.adapters.image import pipelines, scene

from frisket.adapters.image.adapter import ImageAdapterModules
from frisket.adapters.image.attention import make_key_values, number_attentions, read_text_weights
from frisket.adapters.image.files import write_image_adapter
from frisket.adapters.image.layouts import recognise
from frisket.adapters.spec import AdapterMismatch

INPUTS = scene.draw_inputs()
UNET_KINDS = ("base", "plus", "full", "faceid", "faceid-plus", "faceid-plusv2", "instantid")


@pytest.fixture(scope="module")
def adapters():
    unet = pipelines.build_unet()
    return {
        kind: ImageAdapterModules.start_for_model(
            kind, copy.deepcopy(scene.build_projection(kind)), unet
        )
        for kind in UNET_KINDS
    }


@pytest.mark.parametrize("suffix", [".bin", ".safetensors"])
@pytest.mark.parametrize("kind", UNET_KINDS)
def test_the_stock_pipeline_loads_what_we_write(tmp_path, adapters, kind, suffix):
    adapter = adapters[kind]
    name = f"ip-adapter-{kind}{suffix}"
    write_image_adapter(tmp_path / name, adapter.to_file())
    unet = pipelines.build_unet()
    pipe = pipelines.build_pipeline(unet)
    pipe.load_ip_adapter(tmp_path, subfolder="", weight_name=name, image_encoder_folder=None)
    loaded = {
        name.removesuffix(".processor"): processor.to_k_ip[0].weight
        for name, processor in unet.attn_processors.items()
        if hasattr(processor, "to_k_ip")
    }
    assert len(loaded) == len(adapter.ip_adapter) == 4
    for layer, weight in loaded.items():
        assert torch.equal(weight, unet.get_submodule(layer).to_k.weight)
    (projection,) = unet.encoder_hid_proj.image_projection_layers
    theirs = sum(p.numel() for p in projection.parameters())
    assert theirs == sum(p.numel() for p in adapter.image_proj.parameters())
    inputs = scene.list_inputs(kind, INPUTS)
    if kind.startswith("faceid-plus"):
        projection.clip_embeds = inputs[1][:, None]
        projection.shortcut, projection.shortcut_scale = kind.endswith("v2"), 0.7
    given = inputs[0][:, None] if kind == "instantid" else inputs[0]
    with torch.no_grad():
        torch.testing.assert_close(
            projection(given), adapter.image_proj(*inputs), atol=1e-5, rtol=0
        )


def test_a_faceid_lora_goes_into_the_stock_pipeline(tmp_path):
    unet = pipelines.build_unet()
    adapter = ImageAdapterModules.start_for_model(
        "faceid", copy.deepcopy(scene.build_projection("faceid")), unet
    )
    for number in range(8):
        for part in ("q", "k", "v", "out"):
            width = 64
            for end, shape in (("down", (4, width)), ("up", (width, 4))):
                name = f"{number}.to_{part}_lora.{end}.weight"
                adapter.loras[name] = scene.draw(name, shape)
    write_image_adapter(tmp_path / "faceid.bin", adapter.to_file())
    pipe = pipelines.build_pipeline(pipelines.build_unet())
    pipe.load_ip_adapter(
        tmp_path, subfolder="", weight_name="faceid.bin", image_encoder_folder=None
    )
    factors = [n for n, _ in pipe.unet.named_parameters() if ".faceid_0." in n]
    assert len(factors) == 64
    numbers = number_attentions(pipelines.build_unet().attn_processors)
    loaded = dict(pipe.unet.named_parameters())
    for key in factors:  # ....attn1.to_q.lora_A.faceid_0.weight
        layer, _, rest = key.partition(".to_")
        part, end = rest.split(".")[0], "down" if ".lora_A." in key else "up"
        written = adapter.loras[f"{numbers[f'{layer}.processor']}.to_{part}_lora.{end}.weight"]
        assert torch.equal(loaded[key], written), key


def test_flux_and_sd3_load_what_we_write():
    file = scene.build_file("xlabs-flux")
    flux = FluxTransformer2DModel(
        patch_size=1, in_channels=4, num_layers=2, num_single_layers=1, attention_head_dim=16,
        num_attention_heads=4, joint_attention_dim=64, pooled_projection_dim=8,
        axes_dims_rope=(4, 4, 8),
    )  # fmt: skip
    flux._load_ip_adapter_weights(
        [{"image_proj": dict(file.projection), "ip_adapter": dict(file.layers)}]
    )
    tokens = flux.encoder_hid_proj.image_projection_layers[0](INPUTS["pooled"])
    ours = file.build_projection()(INPUTS["pooled"])
    torch.testing.assert_close(tokens, ours, atol=1e-5, rtol=0)
    assert file.numbers == (0, 1)
    assert file.build_layers()["1"].to_k_ip.bias is not None
    file = scene.build_file("instantx-sd3")
    sd3 = SD3Transformer2DModel(
        sample_size=8, patch_size=2, in_channels=4, num_layers=2, attention_head_dim=16,
        num_attention_heads=4, joint_attention_dim=32, caption_projection_dim=64,
        pooled_projection_dim=32, out_channels=4,
    )  # fmt: skip
    sd3._load_ip_adapter_weights(
        {"image_proj": dict(file.projection), "ip_adapter": dict(file.layers)}
    )
    assert isinstance(sd3.image_proj, IPAdapterTimeImageProjection)
    inputs = scene.list_inputs("instantx-sd3", INPUTS)
    with torch.no_grad():
        for theirs, mine in zip(
            sd3.image_proj(*inputs), file.build_projection()(*inputs), strict=True
        ):
            torch.testing.assert_close(theirs, mine, atol=1e-5, rtol=0)
    with pytest.raises(AdapterMismatch, match="norms beside"):
        file.build_layers()


def test_numbers_are_those_of_the_public_files_also_beside_a_loaded_adapter(tmp_path, adapters):
    unet = pipelines.build_unet()
    names = list(unet.attn_processors)
    numbers = number_attentions(names)
    assert list(numbers.values()) == list(range(8))
    assert number_attentions([*names, "a.motion_modules.0.attn1.processor"]) == numbers
    write_image_adapter(tmp_path / "plus.bin", adapters["plus"].to_file())
    pipe = pipelines.build_pipeline(unet)
    pipe.load_ip_adapter(tmp_path, subfolder="", weight_name="plus.bin", image_encoder_folder=None)
    assert number_attentions(unet.attn_processors) == numbers
    with pytest.raises(AdapterMismatch, match="is number 1 of"):
        number_attentions([names[0], names[2]])


def test_keys_and_values_begin_as_the_texts():
    unet = pipelines.build_unet()
    values = make_key_values(unet)
    assert list(values) == ["1", "3", "5", "7"]
    for number, (key, value) in read_text_weights(unet).items():
        layer = values[str(number)]
        assert torch.equal(layer.to_k_ip.weight, key)
        assert torch.equal(layer.to_v_ip.weight, value)
        assert layer.to_k_ip.weight.data_ptr() != key.data_ptr()
    with pytest.raises(AdapterMismatch, match="keys and values of layers"):
        values.start_from({1: next(iter(read_text_weights(unet).values()))})
    with pytest.raises(AdapterMismatch, match="layer 1"):
        values.start_from({n: (torch.ones(2, 2),) * 2 for n in (1, 3, 5, 7)})


def test_a_step_of_training_reaches_the_adapter_and_its_file():
    adapter = ImageAdapterModules.start_for_model(
        "faceid", copy.deepcopy(scene.build_projection("faceid")), pipelines.build_unet()
    )
    before = adapter.to_file()
    keys, values = adapter.ip_adapter["3"](adapter.image_proj(INPUTS["unit"]))
    (keys.square().mean() + values.square().mean()).backward()
    torch.optim.SGD(adapter.parameters(), 0.1).step()
    after = adapter.to_file()
    changed = {k for k, v in after.layers.items() if not torch.equal(v, before.layers[k])}
    assert changed == {"3.to_k_ip.weight", "3.to_v_ip.weight"}
    assert set(adapter.state_dict()) == {
        *(f"image_proj.{key}" for key in after.projection),
        *(f"ip_adapter.{key}" for key in after.layers),
    }
    assert recognise(after.projection, after.layers).kind == "faceid"

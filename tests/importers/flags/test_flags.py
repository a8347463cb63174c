"""Training options that kohya's trainers share: each becomes what it was, or is told."""

import pytest
import tomlkit

from frisket.config.tree import Config
from frisket.importers.base import IMPORT_FORMATS
from frisket.training.optim import ALIASES

SETS = {
    "kohya": '[[datasets]]\nresolution = 64\nbatch_size = 2\n'
             '[[datasets.subsets]]\nimage_dir = "a"\nnum_repeats = 4\n',
    "musubi": '[[datasets]]\nimage_directory = "a"\nresolution = [64, 64]\nbatch_size = 2\n'
              "num_repeats = 4\n",
}  # fmt: skip
MODULES = {"kohya": "networks.lora", "musubi": "networks.lora_wan"}


@pytest.fixture
def ask(tmp_path, drawn):
    """What becomes of training options beside a set of three pictures, seen four times each."""
    drawn("a", "0.png", "1.png", "2.png", caption="a cat")

    def read(trainer="kohya", sets="", **options):
        (tmp_path / "set.toml").write_text(sets or SETS[trainer])
        tree = {"dataset_config": "set.toml", "network_module": MODULES[trainer], **options}
        (tmp_path / "train.toml").write_text(tomlkit.dumps(tree))
        imported = IMPORT_FORMATS.load(trainer).read(tmp_path / "train.toml")
        data = [{**table, "clips": str(tmp_path / "a")} for table in imported.data]
        Config.model_validate({"data": data, **imported.sections})
        return imported.sections, {note.option: note for note in imported.notes}

    return read


@pytest.mark.parametrize("trainer", ["kohya", "musubi"])
@pytest.mark.parametrize(
    ("options", "schedule"),
    [
        ({}, {"schedule": "constant"}),
        ({"lr_scheduler": "constant", "lr_warmup_steps": 10}, {"schedule": "constant"}),
        ({"lr_scheduler": "constant_with_warmup", "lr_warmup_steps": 10},
         {"schedule": "constant", "warmup": 10}),
        ({"lr_scheduler": "linear", "lr_warmup_steps": 0.05},
         {"schedule": "linear", "warmup": 0.05}),
        ({"lr_scheduler": "cosine", "lr_scheduler_num_cycles": 3, "lr_scheduler_min_lr_ratio": 0.1},
         {"schedule": "cosine"}),
        ({"lr_scheduler": "cosine_with_restarts", "lr_scheduler_num_cycles": 3},
         {"schedule": "cosine_with_restarts", "cycles": 3.0}),
        ({"lr_scheduler": "cosine_with_min_lr", "lr_scheduler_min_lr_ratio": 0.1},
         {"schedule": "cosine", "final": 0.1}),
        ({"lr_scheduler": "polynomial", "lr_scheduler_power": 2, "learning_rate": 1e-4},
         {"schedule": "polynomial", "power": 2.0, "final": 1e-3}),
        ({"lr_scheduler": "inverse_sqrt", "lr_warmup_steps": 10},
         {"schedule": "inverse_sqrt", "warmup": 10}),
        ({"lr_scheduler": "warmup_stable_decay", "lr_decay_steps": 0.2, "lr_warmup_steps": 5,
          "lr_scheduler_min_lr_ratio": 0.05},
         {"schedule": "warmup_stable_decay", "decay": 0.2, "warmup": 5, "final": 0.05}),
        ({"lr_scheduler": "piecewise_constant"}, {"schedule": "constant"}),
        ({"lr_scheduler": "cosine", "lr_scheduler_type": "library.RexLR"},
         {"schedule": "constant"}),
        ({"lr_scheduler_type": "CosineAnnealingLR", "max_train_steps": 300, "learning_rate": 1e-4,
          "lr_scheduler_args": ["T_max=100", "eta_min=1e-5"]},
         {"schedule": "cosine", "cycles": 3.0, "final": 0.1}),
        ({"lr_scheduler": "cosine", "lr_warmup_steps": 9,
          "optimizer_type": "schedulefree.AdamWScheduleFree"}, {"schedule": "constant"}),
    ],
)  # fmt: skip
def test_schedules(ask, trainer, options, schedule):
    sections, notes = ask(trainer, **options)
    keys = ("schedule", "warmup", "cycles", "power", "decay", "final")
    found = {key: sections["optimizer"][key] for key in keys if key in sections["optimizer"]}
    assert found == pytest.approx(schedule) if "final" in schedule else found == schedule
    for name in options:  # what this schedule does not look at is told
        if "piecewise" in str(options.get(name)) or "RexLR" in str(options.get(name)):
            assert notes[name].kind == "no equivalent"
        elif name != "learning_rate" and options.get("lr_scheduler") == "cosine":
            taken = name == "lr_scheduler" and schedule["schedule"] == "cosine"
            assert (notes[name].kind == "not needed") is not (taken or name == "optimizer_type")


@pytest.mark.parametrize("trainer", ["kohya", "musubi"])
def test_epochs_are_epochs(ask, trainer):
    sections, _ = ask(trainer, max_train_epochs=6, save_every_n_epochs=2, max_train_steps=0)
    assert sections["run"] == {
        "batch": 2, "epochs": 6, "save_every": 0, "save_every_epochs": 2, "keep": 3,
    }  # fmt: skip
    sections, _ = ask(trainer, max_train_epochs=0, max_train_steps=30, save_every_n_steps=10)
    assert sections["run"] == {"batch": 2, "steps": 30, "save_every": 10, "keep": 3}
    sections, _ = ask(trainer, max_train_epochs=3, save_last_n_epochs=2, save_every_n_epochs=1)
    assert sections["run"]["keep"] == 2
    sections, _ = ask(trainer, save_last_n_steps=30, save_every_n_steps=10)
    assert sections["run"]["keep"] == 4  # thirty steps back, and the one there


def test_an_epoch_that_is_another_here_is_counted_in_steps(ask):
    sets = SETS["kohya"].replace("num_repeats = 4", "num_repeats = 5\nflip_aug = true")
    sections, notes = ask("kohya", sets, max_train_epochs=3, save_every_n_epochs=1,
                          gradient_accumulation_steps=2)  # fmt: skip
    assert sections["run"]["steps"] == 3 * 4  # 15 pictures, 8 batches, 4 steps
    assert sections["run"]["save_every"] == 4
    assert "epochs" not in sections["run"]
    assert "2 of theirs" in notes["max_train_epochs"].message
    sections, _ = ask("kohya", sets, max_train_epochs=4, save_every_n_epochs=2)
    assert sections["run"]["epochs"] == 2
    assert sections["run"]["save_every_epochs"] == 1
    even = sets.replace("num_repeats = 5", "num_repeats = 4")
    assert ask("kohya", even, max_train_epochs=3)[0]["run"]["epochs"] == 3


@pytest.mark.parametrize(
    ("module", "arguments", "lora", "plus", "lost"),
    [
        ("networks.lora", ["conv_dim=8", "conv_alpha=2"], {"conv_rank": 8, "conv_alpha": 2.0}, 0,
         ()),
        ("networks.lora", ["conv_dim=8"], {"conv_rank": 8, "conv_alpha": 1.0}, 0, ()),
        ("networks.lora", ["loraplus_lr_ratio=4", "loraplus_unet_lr_ratio=16"], {}, 16.0, ()),
        ("networks.lora", ["rank_dropout=0.1", "module_dropout=0.2"],
         {"rank_dropout": 0.1, "module_dropout": 0.2}, 0, ()),
        ("networks.lora", ["block_dims=4,4,4", "down_lr_weight=1,1"], {}, 0,
         ("block_dims", "down_lr_weight")),
        ("networks.lora_flux", ["train_blocks=single", "split_qkv=True"], {}, 0,
         ("train_blocks", "split_qkv")),
        ("networks.lora_flux", ["conv_dim=8"], {}, 0, ("conv_dim",)),
        ("lycoris.kohya", ["algo=lokr", "factor=8", "full_matrix=True", "preset=attn-mlp"],
         {"kind": "lokr", "factor": 8, "full_matrix": True, "preset": "attn-mlp"}, 0, ()),
        ("lycoris.kohya", ["algo=lora", "dora_wd=True", "preset=attn-only"],
         {"kind": "dora", "preset": "attn"}, 0, ()),
        ("lycoris.kohya", ["algo=loha", "preset=full"],
         {"kind": "loha", "preset": "full", "conv_rank": 4, "conv_alpha": 1.0}, 0, ()),
        ("lycoris.kohya", ["algo=loha"],
         {"kind": "loha", "preset": "full", "conv_rank": 4, "conv_alpha": 1.0}, 0, ()),
        ("lycoris.kohya", ["algo=lora", "preset=mine.toml", "rs_lora=True"], {"alpha": 2.0}, 0,
         ("preset",)),
    ],
)  # fmt: skip
def test_networks(ask, module, arguments, lora, plus, lost):
    sections, notes = ask("kohya", network_module=module, network_args=arguments)
    alpha = {} if lora.get("full_matrix") else {"alpha": 1.0}
    assert sections["lora"] == {"rank": 4} | alpha | lora
    assert sections["optimizer"].get("lora_plus", 0) == plus
    told = {name for name, note in notes.items() if note.kind == "no equivalent"}
    assert {f"network_args.{name}" for name in lost} == {
        n for n in told if n.startswith("network_args")
    }
    for each in arguments:
        assert f"network_args.{each.partition('=')[0]}" in notes or "algo=lo" in each or (
            each == "preset=full"
        )  # fmt: skip


@pytest.mark.parametrize(
    ("module", "arguments", "named"),
    [
        ("lycoris.kohya", ["algo=diag-oft"], "diag-oft"),
        ("lycoris.kohya", ["algo=ia3"], "ia3"),
        ("lycoris.kohya", ["algo=full"], "full"),
        ("networks.oft", [], "oft"),
        ("networks.dylora", [], "dylora"),
        ("", [], "whole model"),
    ],
)
def test_what_is_no_low_rank_adapter_there_keeps_no_rate(ask, module, arguments, named):
    sections, notes = ask(
        "kohya", network_module=module, network_args=arguments, learning_rate=1e-5
    )
    assert set(sections["optimizer"]) == {"name", "schedule"}
    assert sections["optimizer"]["name"] not in ALIASES  # so nothing trains before one is chosen
    assert notes["learning_rate"].kind == "no equivalent"
    assert named in notes["learning_rate"].message
    assert any(note.kind == "no equivalent" for name, note in notes.items() if "network" in name)


def test_the_path_of_an_optimizer_is_no_path_where_it_stands_for_nothing(ask):
    sections, _ = ask("kohya", network_module="", optimizer_type="schedulefree.AdamWScheduleFree")
    assert sections["optimizer"]["name"] == "AdamWScheduleFree on the whole model of sd-scripts"


def test_noise_where_the_trainer_reads_it(ask):
    options = {"noise_offset": 0.05, "noise_offset_random_strength": True,
               "multires_noise_iterations": 6}  # fmt: skip
    assert ask("kohya", **options)[0]["noise"] == {
        "offset": 0.05, "offset_random": True, "multires_iterations": 6, "multires_discount": 0.3,
    }  # fmt: skip
    sections, notes = ask("kohya", network_module="networks.lora_flux", **options)
    assert "noise" not in sections
    assert {notes[name].kind for name in options} == {"not needed"}
    assert ask("musubi", noise_offset=0.05)[0]["noise"] == {"offset": 0.05}  # of a fork


def test_prompts_with_what_all_of_them_ask_for(ask, tmp_path):
    (tmp_path / "prompts.txt").write_text(
        "a cat --n bad, worse --w 64 --h 96 --d 7 --s 20 --l 4.5\n"
        "# none\na dog --n bad, worse --w 64 --h 96 --d 8 --s 20 --l 4.5\n"
    )
    sections, notes = ask("kohya", sample_prompts="prompts.txt", sample_every_n_epochs=1,
                          sample_every_n_steps=50)  # fmt: skip
    assert sections["preview"] == {
        "every": 0, "every_epochs": 1, "prompts": ["a cat", "a dog"], "negative": "bad, worse",
        "width": 64, "height": 96, "steps": 20, "guidance": 4.5,
    }  # fmt: skip
    assert "--d" in notes["sample_prompts"].message
    both = ask("musubi", sample_prompts="prompts.txt", sample_every_n_epochs=1,
               sample_every_n_steps=50)[0]["preview"]  # fmt: skip
    assert (both["every"], both["every_epochs"]) == (50, 1)


def test_norms_of_the_adapter_are_held_down(ask):
    assert ask("kohya", scale_weight_norms=1.0)[0]["lora"]["max_norm"] == 1.0
    assert "max_norm" not in ask("kohya", scale_weight_norms=0)[0]["lora"]


@pytest.mark.parametrize(
    ("options", "model"),
    [
        ({"task": "t2v-1.3B"}, ("wan", "2.1-t2v-1.3b", None)),
        ({}, ("wan", "2.1-t2v-14b", None)),
        ({"task": "i2v-14B", "dit": "m/wan2.1_i2v_720p_14B_bf16.safetensors"},
         ("wan", "2.1-i2v-14b-720p", None)),
        ({"task": "t2v-A14B", "dit": "m/wan2.2_t2v_high_noise_14B_fp16.safetensors"},
         ("wan", "2.2-t2v-a14b", "high")),
        ({"task": "t2v-A14B", "dit": "m/mine.safetensors", "max_timestep": 875},
         ("wan", "2.2-t2v-a14b", "low")),
        ({"task": "i2v-A14B", "dit": "low.safetensors", "dit_high_noise": "high.safetensors"},
         ("wan", "2.2-i2v-a14b", None)),
        ({"network_module": "networks.lora_zimage", "dit": "z_image_turbo_bf16.safetensors"},
         ("z_image", "turbo", None)),
        ({"network_module": "networks.lora_zimage", "dit": "z_image_bf16.safetensors"},
         ("z_image", "base", None)),
        ({"network_module": "networks.lora_qwen_image"}, ("qwen_image", "image", None)),
        ({"network_module": "networks.lora_qwen_image", "edit_plus": True},
         ("qwen_image", "edit-2509", None)),
        ({"network_module": "networks.lora_qwen_image", "model_version": "edit-2511"},
         ("qwen_image", "edit-2511", None)),
        ({"network_module": "networks.lora_qwen_image", "model_version": "layered"}, None),
        ({"network_module": "networks.lora_flux_2", "model_version": "klein-base-4b"},
         ("flux2", "klein-base-4b", None)),
        ({"network_module": "networks.lora_flux"}, ("flux", "kontext", None)),
        ({"network_module": "networks.lora_hv_1_5", "task": "i2v"},
         ("hunyuan_video", "1.5-720p-i2v", None)),
        ({"network_module": "networks.lora"}, ("hunyuan_video", "t2v", None)),
        ({"network_module": "networks.lokr", "dit": "qwen_image_edit_2509_bf16.safetensors"},
         ("qwen_image", "edit-2509", None)),
        ({"network_module": "networks.lora_framepack"}, None),
        ({"task": "flf2v-14B"}, None),
    ],
)  # fmt: skip
def test_models_of_musubi_tuner(ask, options, model):
    sections, notes = ask("musubi", **options)
    found = sections.get("model", {})
    if model is None:
        assert "family" not in found
        assert any("family" in n.message or "model" in n.message for n in notes.values()
                   if n.kind == "no equivalent")  # fmt: skip
    else:
        assert (found["family"], found.get("variant"), found.get("experts")) == model


@pytest.mark.parametrize(
    ("options", "model"),
    [
        ("m/flux1-dev.safetensors networks.lora_flux", ("flux", "dev")),
        ("m/flux1-schnell.safetensors networks.lora_flux", ("flux", "schnell")),
        ("m/flux1-kontext-dev.safetensors networks.lora_flux", ("flux", "kontext")),
        ("m/sd3.5_large.safetensors networks.lora_sd3", ("sd3", "3.5-large")),
        ("m/sd3_medium.safetensors networks.lora_sd3", ("sd3", "3-medium")),
        ("m/sd_xl_base_1.0.safetensors networks.lora", ("stable_diffusion", "sdxl")),
        ("m/animefull-final-pruned.ckpt networks.lora", ("stable_diffusion", "sd15")),
        ("runwayml/stable-diffusion-v1-5 networks.lora", ("stable_diffusion", "sd15")),
        ("m/noobaiXLNAIXL_vPred10.safetensors networks.lora", ("stable_diffusion", "sdxl-v")),
        ("m/ponyDiffusionV6XL.safetensors lycoris.kohya", ("stable_diffusion", "sdxl")),
        ("m/mine.safetensors networks.lora", ("stable_diffusion", "sd15")),  # by 64 pixels, told
        ("m/v2-1_768-ema-pruned.safetensors networks.lora", None),
        ("m/lumina.safetensors networks.lora_lumina", None),
    ],
)
def test_models_of_sd_scripts(ask, options, model):
    name, module = options.split()
    sections, notes = ask("kohya", pretrained_model_name_or_path=name, network_module=module)
    found = sections.get("model", {})
    if model is None:
        assert "family" not in found
        return
    assert (found["family"], found.get("variant")) == model
    assert found.get("source", "") == (name if "runwayml" in name else "")
    note = notes["pretrained_model_name_or_path"]
    assert ("--variant" in note.message) is ("mine" in name)
    assert ("is not there" in note.message) is ("runwayml" not in name)


def test_sd_2_is_not_taken_for_another(ask):
    sections, notes = ask("kohya", v2=True, v_parameterization=True)
    assert "family" not in sections.get("model", {})
    assert notes["v2"].kind == "no equivalent"

"""What ai-toolkit samples while it trains, and the pictures that an edit model is given."""

import pytest
from tests.importers.trainers.ai_toolkit import files
from tests.importers.trainers.ai_toolkit.files import job

clips, imported = files.clips, files.imported
ROW = {"folder_path": "clips"}
SAMPLES = "config.process[0].sample.samples"


def sampled(**options):
    return job(ROW, sample={"sample_every": 5, **options})


def test_samples_bring_their_pictures(clips, imported, loaded, tmp_path):
    rows = [{"prompt": "a", "ctrl_img_1": "clips/a.png", "ctrl_img_2": "clips/b.jpg"}]
    done = imported(sampled(samples=rows))
    pictures = [str(tmp_path / "clips/a.png"), str(tmp_path / "clips/b.jpg")]
    assert done.sections["preview"]["images"] == pictures
    assert done.sections["preview"]["every"] == 5
    loaded(done)


def test_previews_without_their_pictures_are_off_and_told(clips, imported, notes):
    rows = [{"prompt": "a", "ctrl_img": "/nowhere/a.png"}]
    done = imported(sampled(samples=rows))
    assert done.sections["preview"]["every"] == 0
    assert "images" not in done.sections["preview"]
    (note,) = notes(done)[SAMPLES]
    assert (note.kind, "/nowhere/a.png is not there" in note.message) == ("no equivalent", True)


@pytest.mark.parametrize(
    ("options", "option", "said"),
    [
        (
            {"samples": [{"prompt": "a", "ctrl_img": "clips/a.png"}, {"prompt": "b"}]},
            *("samples", "those of the first entry with some are taken"),
        ),
        (
            {"samples": [{"prompt": "a", "width": 64}, {"prompt": "b"}]},
            *("samples", "one width for all"),
        ),
        ({"samples": [{"prompt": "a", "seed": 7}]}, "samples", "those of entries are not taken"),
        ({"prompts": ["a", "b"], "walk_seed": True}, "walk_seed", "the next seed"),
        ({"prompts": ["a --m 0.5"]}, "prompts", "--m in a prompt has no place"),
        ({"prompts": ["a"], "seed": -1}, "seed", "a new one each time"),
    ],
)
def test_what_all_previews_share_is_told(clips, imported, notes, options, option, said):
    done = imported(sampled(**options))
    told = notes(done)[f"config.process[0].sample.{option}"]
    assert said in told[0].message
    assert done.sections["preview"]["prompts"][0] == "a"


def test_settings_of_the_first_entry_count(clips, imported):
    rows = [{"prompt": "a", "width": 64, "guidance_scale": 1, "neg": "bad", "num_frames": 5}]
    preview = imported(sampled(samples=rows, sample_steps=8, neg="x")).sections["preview"]
    assert preview == {
        "every": 5, "prompts": ["a"], "seeds": [0], "width": 64, "height": 512, "steps": 8,
        "guidance": 1, "frames": 5, "negative": "bad",
    }  # fmt: skip


def test_what_a_prompt_sets_for_itself(clips, imported, tmp_path):
    prompt = "a  --ctrl_img clips/a.png --w 640 --cfg 3 --steps 9 --n ugly"
    preview = imported(sampled(prompts=[prompt])).sections["preview"]
    assert preview == {
        "every": 5, "prompts": ["a"], "seeds": [0], "width": 640, "height": 512, "steps": 9,
        "guidance": 3.0, "frames": 1, "negative": "ugly", "images": [str(tmp_path / "clips/a.png")],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arch", "options", "preview", "option", "said"),
    [
        ("wan21", {"num_frames": 40}, {"frames": 41}, "num_frames", "1 + n * 4 frames"),
        ("wan21", {"width": 1000}, {"width": 992}, "width", "multiples of 16"),
        ("zimage", {"num_frames": 9}, {"frames": 1}, "num_frames", "makes no video"),
        ("flux_kontext", {}, {"every": 0}, "prompts", "works from pictures"),
        ("wan21_i2v", {}, {"every": 0}, "prompts", "goes on from a first frame"),
    ],
)
def test_previews_that_a_model_can_make(
    clips, imported, notes, arch, options, preview, option, said
):
    tree = sampled(prompts=["x"], **options)
    tree["config"]["process"][0]["model"] = {"arch": arch}
    done = imported(tree)
    assert preview.items() <= done.sections["preview"].items()
    (note,) = notes(done)[f"config.process[0].sample.{option}"]
    assert said in note.message


@pytest.mark.parametrize("options", [{"sample_every": 0}, {"sample_every": None}])
def test_no_samples_are_none(clips, imported, options):
    assert imported(sampled(prompts=["x"], **options)).sections["preview"]["every"] == 0


def test_sampling_that_is_off_is_off(clips, imported):
    tree = sampled(prompts=["x"])
    tree["config"]["process"][0]["train"] = {"disable_sampling": True}
    assert imported(tree).sections["preview"]["every"] == 0


def test_references_of_several_folders_are_listed(clips, drawn, imported, loaded, found, written):
    one, two = drawn("one", "a.png", "b.png"), drawn("two", "a.png")
    done = imported(job({**ROW, "control_path": ["one", "two"], "mask_path": "masks"}))
    (lines,) = done.manifests.values()
    references = {line["name"]: line["references"] for line in lines}
    assert references == {
        "a": [str(one / "a.png"), str(two / "a.png")],
        "b": [str(one / "b.png")],
    }
    seen = found(loaded(written(done))).clips
    assert [(each.name, each.caption, len(each.references)) for each in seen] == [
        ("a", "one,\ntwo", 2),
        ("b", "one,\ntwo", 1),
    ]
    assert seen[0].masks


def test_numbered_references_go_before_the_others(clips, drawn, imported, notes):
    drawn("one", "a.png")
    drawn("old", "a.png")
    done = imported(job({**ROW, "control_path": "old", "control_path_1": "one"}))
    assert done.data[0]["references"] == str(clips.parent / "one")
    (note,) = notes(done)["config.process[0].datasets[0].control_path"]
    assert note.kind == "not needed"


def test_a_set_with_an_empty_trigger_has_none(clips, imported):
    done = imported(job({**ROW, "trigger_word": ""}, ROW, trigger_word="sks"))
    assert [table.get("trigger") for table in done.data] == [None, "sks"]


def test_a_turbo_model_with_a_training_adapter(clips, imported, loaded, notes):
    """A job as the forms of its interface write it."""
    done = imported(
        job(
            {
                "folder_path": "clips", "mask_path": None, "mask_min_value": 0.1,
                "default_caption": "x", "caption_ext": "txt", "caption_dropout_rate": 0.05,
                "is_reg": False, "network_weight": 1, "resolution": [768, 1024], "controls": [],
                "num_frames": 1, "do_i2v": False,
            },
            network={
                "type": "lora", "linear": 32, "linear_alpha": 32, "conv": 0, "conv_alpha": 0,
                "lokr_full_rank": False, "lokr_factor": -1,
                "network_kwargs": {"ignore_if_contains": []},
            },
            train={
                "lr": 1.5e-4, "steps": 2000, "noise_scheduler": "flowmatch", "dtype": "bf16",
                "optimizer": "adamw8bit", "timestep_type": "sigmoid",
                "cache_text_embeddings": True,
                "bypass_guidance_embedding": False, "switch_boundary_every": 1,
                "do_differential_guidance": True, "differential_guidance_scale": 3,
            },
            model={
                "name_or_path": "/x/Z-Image-Turbo-HF", "arch": "zimage:turbo", "quantize": True,
                "qtype": "qfloat8", "assistant_lora_path": "/x/adapter_v2.safetensors",
                "layer_offloading": False, "layer_offloading_transformer_percent": 1,
            },
            sample={"samples": [{"prompt": "x"}], "guidance_scale": 1, "sample_steps": 8},
        )
    )  # fmt: skip
    assert [table["resolution"] for table in done.data] == [768, 1024]
    sections = done.sections
    assert (sections["model"]["family"], sections["model"]["variant"]) == ("z_image", "turbo")
    assert sections["timesteps"] == {"density": "logit_normal", "shift": 1.0}
    assert sections["memory"]["quantise"] == "fp8"
    assert sections["lora"] == {"rank": 32, "alpha": 32.0, "preset": "blocks"}
    assert (sections["preview"]["steps"], sections["preview"]["guidance"]) == (8, 1.0)
    told = notes(done)
    for option, words in (
        ("train.do_differential_guidance", "guidance scale"),
        ("model.assistant_lora_path", "merge it into the base weights"),
    ):
        (note,) = told[f"config.process[0].{option}"]
        assert (note.kind, words in note.message) == ("no equivalent", True)
    for option in ("train.bypass_guidance_embedding", "network.conv", "model.layer_offloading"):
        assert told[f"config.process[0].{option}"][0].kind == "not needed"
    loaded(done)

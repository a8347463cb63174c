"""A OneTrainer configuration becomes the same training here, and every option is answered."""

import json
from typing import Any

import pytest
from tests.importers.trainers.onetrainer import files
from tests.importers.trainers.onetrainer.files import LAYOUT, concept, config

from frisket.importers.options import read_rules

clips, imported = files.clips, files.imported
IMAGE = {name: True for name in ("enable_crop_jitter", "enable_random_flip")}
TEXT = {"prompt_source": "sample", "enable_tag_shuffling": True, "keep_tags_count": 2}


def test_clips_masks_and_captions_are_found_as_it_finds_them(clips, imported, loaded, found):
    seen = found(loaded(imported(config()))).clips
    assert [(one.name, one.caption) for one in seen] == [
        ("a", "one, two"),
        ("b", "one, two"),
        ("sub/c", "one, two"),
    ]
    assert [dict(one.masks) for one in seen] == [{"": clips / "a-masklabel.png"}, {}, {}]


def test_one_table_a_concept_and_resolution(clips, drawn, imported, loaded):
    drawn("other", "x.png", "y.png", "z.png", "w.png", caption="x")
    tree = config(
        resolution="512, 768",
        concepts=[
            concept("set", image=IMAGE, text=TEXT, balancing=2.0, loss_weight=0.5),
            concept(
                "other",
                image={"enable_resolution_override": True, "resolution_override": "640x512"},
                balancing=2,
                balancing_strategy="SAMPLES",
            ),
            concept("set", enabled=False),
            concept("set", type="VALIDATION"),
            concept("set", type="PRIOR_PREDICTION"),
            concept("set", loss_weight=0),
        ],
        text_encoder={"dropout_probability": 0.05},
    )
    done = imported(tree)
    first = {
        "clips": str(clips),
        "masks": "sidecar",
        "shuffle_tags": True,
        "keep_tags": 2,
        "caption_dropout": 0.05,
        "weight": 0.5,
        "flip": True,
        "buckets": True,
        "repeats": 1,  # 2 repeats, over two resolutions and two mirror images: a half
    }
    assert done.data == (
        first | {"resolution": 512},
        first | {"resolution": 768},
        {
            "clips": str(clips.parent / "other"),
            "caption_dropout": 0.05,
            "resolution": [640, 512],
            "buckets": False,
            "repeats": 1,  # 2 of 4 clips: a half
        },
    )
    loaded(done)


def test_masked_training_keeps_its_meaning(clips, imported, loaded):
    done = imported(
        config(
            unmasked_weight=0.05,
            unmasked_probability=0.0,
            normalize_masked_area_loss=True,
            masked_prior_preservation_weight=0.3,
        )
    )
    assert done.sections["losses"] == {
        "compat": "onetrainer",
        "normalise": "sample",
        "prior": 0.3,
    }
    assert done.sections["curve"] == {"floor": 0.05}
    loaded(done)


def test_defaults_that_are_not_written_are_written_out(clips, imported, notes):
    done = imported(config())
    assert done.sections["losses"] == {"compat": "onetrainer", "normalise": "none"}
    assert done.sections["curve"] == {"floor": 0.1}
    (note,) = notes(done)["unmasked_weight"]
    assert (note.value, note.line) == (0.1, None)
    lora = {"kind": "lora", "rank": 16, "alpha": 1.0, "targets": ["/./"]}
    assert done.sections["lora"] == lora
    assert done.data[0]["resolution"] == 512


@pytest.mark.parametrize(
    ("options", "model", "quantise"),
    [
        (
            {"model_type": "STABLE_DIFFUSION_15", "unet": {"weight_dtype": "FLOAT_16"}},
            {"family": "stable_diffusion", "variant": "sd15", "dtype": "float16"},
            None,
        ),
        (
            {"model_type": "STABLE_DIFFUSION_XL_10_BASE", "force_v_prediction": True},
            {"family": "stable_diffusion", "variant": "sdxl-v", "dtype": "float32"},
            None,
        ),
        (
            {
                "model_type": "FLUX_2",
                "base_model_name": "black-forest-labs/FLUX.2-klein-base-9B",
                "train_dtype": "BFLOAT_16",
                "transformer": {"weight_dtype": "INT_W8A8"},
            },
            {
                "family": "flux2",
                "variant": "klein-base-9b",
                "source": "black-forest-labs/FLUX.2-klein-base-9B",
                "dtype": "bfloat16",
            },
            "int8",
        ),
        (
            {
                "model_type": "STABLE_DIFFUSION_35",
                "base_model_name": "stabilityai/stable-diffusion-3.5-large",
                "weight_dtype": "NFLOAT_4",
            },
            {
                "family": "sd3",
                "variant": "3.5-large",
                "source": "stabilityai/stable-diffusion-3.5-large",
                "dtype": "float16",
            },
            "nf4",
        ),
        (
            {"model_type": "Z_IMAGE", "base_model_name": "Tongyi-MAI/Z-Image-Turbo"},
            {
                "family": "z_image",
                "variant": "turbo",
                "source": "Tongyi-MAI/Z-Image-Turbo",
                "dtype": "float32",
            },
            None,
        ),
        (
            {"model_type": "QWEN"},
            {"family": "qwen_image", "variant": "image", "dtype": "float32"},
            None,
        ),
        (
            {"model_type": "HUNYUAN_VIDEO"},
            {"family": "hunyuan_video", "variant": "t2v", "dtype": "float32"},
            None,
        ),
    ],
)
def test_which_model_is_trained(clips, imported, loaded, options, model, quantise):
    done = imported(config(**options))
    assert done.sections["model"] == model
    assert done.sections.get("memory", {}).get("quantise") == quantise
    loaded(done)


def test_a_denoiser_of_its_own_is_the_source(clips, imported, notes, tmp_path):
    (tmp_path / "mine.safetensors").touch()
    part = {"model_name": "C:\\models\\mine.safetensors", "weight_dtype": "GGUF"}
    done = imported(config(transformer=part, base_model_name="black-forest-labs/FLUX.1-dev"))
    assert done.sections["model"]["source"] == str(tmp_path / "mine.safetensors")
    told = notes(done)
    assert "must lie beside it" in told["transformer.model_name"][0].message
    assert "goes before it" in told["base_model_name"][0].message
    assert told["transformer.weight_dtype"][0].kind == "no equivalent"


@pytest.mark.parametrize("kind", ["FLUX_FILL_DEV_1", "CHROMA_1"])
def test_a_model_that_is_not_here_names_the_nearest(clips, imported, notes, kind):
    done = imported(config(model_type=kind, train_dtype="BFLOAT_16"))
    assert "model" not in done.sections
    assert done.model == kind
    assert done.sections["run"]["precision"] == "bfloat16"
    assert "nearest family is flux" in notes(done)["model_type"][0].message


def test_without_masked_training_masks_are_left_alone(clips, imported, notes):
    done = imported(config(masked_training=False, unmasked_weight=0.1))
    assert "masks" not in done.data[0]
    assert "losses" not in done.sections
    assert notes(done)["unmasked_weight"][0].kind == "not needed"


def test_optimizer_adapter_and_run(clips, imported, loaded):
    done = imported(
        config(
            epochs=20,
            batch_size=2,
            gradient_accumulation_steps=3,
            learning_rate=3e-4,
            learning_rate_scheduler="COSINE",
            learning_rate_warmup_steps=50,
            learning_rate_min_factor=0.1,
            clip_grad_norm=None,
            ema="GPU",
            ema_decay=0.99,
            lora_rank=32,
            lora_alpha=16,
            lora_decompose=True,
            dropout_probability=0.1,
            mse_strength=0.5,
            huber_strength=1,
            huber_delta=0.2,
            timestep_distribution="LOGIT_NORMAL",
            noising_weight=0.5,
            noising_bias=0.2,
            timestep_shift=3.0,
            min_noising_strength=0.1,
            max_noising_strength=0.9,
            save_every=100,
            save_every_unit="STEP",
            tensorboard=True,
            optimizer={
                "optimizer": "ADAMW_8BIT",
                "beta1": 0.9,
                "beta2": 0.99,
                "eps": 1e-8,
                "weight_decay": 0.0,
            },
        )
    )
    assert done.sections["optimizer"] == {
        "name": "adamw8bit",
        "lr": 3e-4,
        "weight_decay": 0.0,
        "options": {"eps": 1e-8, "betas": [0.9, 0.99]},
        "schedule": "cosine",
        "warmup": 16,  # 50 micro-batches, 3 a step
        "final": 0.1,
        "clip": 0.0,
        "accumulate": 3,
        "ema": 0.997992,  # 0.99 every fifth step
    }
    assert done.sections["lora"] == {
        "kind": "dora",
        "rank": 32,
        "alpha": 16.0,
        "dropout": 0.1,
        "targets": ["/./"],
    }
    assert done.sections["timesteps"] == {
        "density": "logit_normal",
        "mean": 0.2,
        "std": 1.5,
        "shift": 3.0,
        "low": 0.1,
        "high": 0.9,
        "bounds": "squeeze_before_shift",
    }
    # Two clips: it does not look into sub-folders.
    assert done.sections["run"] == {
        "batch": 2,
        "steps": 6,
        "save_every": 33,  # 100 micro-batches
        "keep": 1,
        "trackers": ["tensorboard"],
        "precision": "float16",
    }
    assert done.sections["losses"]["denoise"] == {"kind": "huber", "strength": 1.0, "delta": 0.2}
    loaded(done)


def test_models_of_noise_have_min_snr(clips, imported):
    done = imported(
        config(
            model_type="STABLE_DIFFUSION_XL_10_BASE",
            loss_weight_fn="MIN_SNR_GAMMA",
            loss_weight_strength=4,
        )
    )
    assert done.sections["timesteps"] == {"min_snr": 4.0}


def test_videos(clips, imported, loaded):
    done = imported(config(model_type="HUNYUAN_VIDEO", frames="1,25"))
    assert done.data[0]["frames"] == 25
    assert done.data[0]["fps"] == "own"
    loaded(done)


def test_concepts_in_a_file_of_their_own(clips, imported, tmp_path, notes):
    (tmp_path / "concepts.json").write_text(json.dumps([concept("set", nmae="x")]))
    done = imported(config(concepts=None, concept_file_name="concepts.json"))
    assert done.data[0]["masks"] == "sidecar"
    (note,) = notes(done)["concepts.json: [0].nmae"]
    assert "did you mean 'name'" in note.message


def test_concepts_alone_take_its_defaults(clips, imported, loaded, notes):
    done = imported([concept("set")], "concepts.json")
    assert done.sections == {"losses": {"compat": "onetrainer"}, "curve": {"floor": 0.1}}
    assert notes(done)["unmasked_weight"][0].value == 0.1
    loaded(done)


def test_captions_of_other_sources(clips, imported, loaded, found, tmp_path, notes):
    (tmp_path / "prompts.txt").write_text("a sks man\n\na man\n")
    text = {"prompt_source": "concept", "prompt_path": "prompts.txt"}
    done = imported(config(concepts=[concept("set", text=text)]))
    assert {one.caption for one in found(loaded(done)).clips} == {"a sks man"}
    assert "one of its 2 lines" in notes(done)["concepts[0].text.prompt_path"][0].message


def test_captions_that_are_names_go_into_a_manifest(clips, imported, loaded, found, written):
    done = imported(config(concepts=[concept("set", text={"prompt_source": "filename"})]))
    seen = found(loaded(written(done))).clips
    # Not sub/c: it does not look into sub-folders.
    assert [(one.name, one.caption, dict(one.masks)) for one in seen] == [
        ("a", "a", {"": clips / "a-masklabel.png"}),
        ("b", "b", {}),
    ]


def test_captions_of_several_lines_are_told(clips, imported, loaded, found, notes):
    (clips / "a.txt").write_text("first\nsecond\n")
    done = imported(config())
    assert found(loaded(done)).clips[0].caption == "first"
    (note,) = notes(done)["concepts[0].text.prompt_source"]
    assert "1 captions have several lines" in note.message


def test_every_option_is_answered(clips, imported, tmp_path, complete, documented):
    rules = read_rules("onetrainer")
    typed: dict[str, Any] = {
        "config": {"optimizer_defaults": {}, "embeddings": []},
        "concept": {"balancing": 1, "repeats": 1, "loss_weight": 1, "type": "STANDARD"},
        "image": {"resolution_override": "512"},
        "text": {"keep_tags_count": 1, "prompt_source": "sample", "tag_delimiter": ","},
        "part": {"dropout_probability": 0.1},
        "optimizer": {"optimizer": "SGD", "weight_decay": 0.1, "eps": 1e-8},
    }
    typed["concept"] |= {"balancing_strategy": "REPEATS"}

    def written(section: str) -> dict[str, Any]:
        flagged = {name: True for name in documented(rules, section) if name.startswith("enable")}
        plain = {name: None for name in documented(rules, section)}
        return {**plain, **flagged, **typed[section]}

    tree = written("config") | {
        "training_method": "LORA",
        "concepts": [
            written("concept") | {"path": "set", "image": written("image"), "text": written("text")}
        ],
        "unet": written("part"),
        "optimizer": written("optimizer"),
        "sample_after": 10,
        "something_new": 1,
    }
    done = imported(tree)
    tables = ("unet", "optimizer", "concepts", "concepts.image", "concepts.text")
    complete(done, tmp_path / "config.json", tables)
    unknown = [note for note in done.notes if "documents no such option" in note.message]
    assert [note.option for note in unknown] == ["something_new"]


def test_paths_of_windows_are_found_below_the_configuration(clips, imported):
    done = imported(config(concepts=[concept("D:\\train\\set")]))
    assert done.data[0]["clips"] == str(clips)


def test_it_knows_its_own_files(clips, imported, tmp_path):
    imported(config())
    imported([concept("set")], "concepts.json")
    (tmp_path / "other.json").write_text('[{"id": "x", "instance_data_dir": "y"}]')
    assert LAYOUT.matches(tmp_path / "config.json")
    assert LAYOUT.matches(tmp_path / "concepts.json")
    assert not LAYOUT.matches(tmp_path / "other.json")
    assert not LAYOUT.matches(tmp_path / "set")


@pytest.mark.parametrize("weight", [1.0, 1.5])
def test_an_unmasked_weight_of_one_is_kept_as_no_mask_at_all(clips, imported, loaded, weight):
    done = imported(config(unmasked_weight=weight))
    assert done.sections["curve"] == {"floor": 1.0}
    loaded(done)


def test_unmasked_draws_that_never_were_are_not_imported(clips, imported, notes):
    done = imported(config(unmasked_probability=0.3))
    assert "unmasked_probability" not in done.sections["curve"]
    kinds = [note.kind for note in notes(done)["unmasked_probability"]]
    assert sorted(kinds) == ["defect", "not needed"]

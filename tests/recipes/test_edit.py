"""`edit` on tiny image-to-video models: from a clip, a mask and a picture to edited clips."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from frisket.cli.app import app
from frisket.config.editing.request import VideoEditRequest
from frisket.config.load import ConfigError
from frisket.config.tree import Config
from frisket.families.base import CLEAN_MASK, FAMILIES, WeightsNotFound
from frisket.media.frames import BadMedia, decode, write_image, write_video
from frisket.media.geometry import MaskMismatch
from frisket.pocket.world import draw, random_creature
from frisket.recipes.edit import edit as recipe
from frisket.recipes.edit.edit import edit
from frisket.runs.editing.plan import check_model, loosen, read_material
from frisket.runs.editing.sampling import build_condition, lay_back
from frisket.runs.editing.stages import build_stages, write_material
from frisket.runs.prepare import prepare

FAMILY = FAMILIES.load("wan")
CLIP, A14B, SMALL = "2.1-i2v-14b-480p", "2.2-i2v-a14b", "2.2-ti2v-5b-i2v"
WIDTH, HEIGHT, COUNT = 96, 64, 6
RED, BLUE = (200, 30, 30), (30, 30, 220)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip of six frames, its mask, its first and fourth frame edited, and no models yet."""
    folder = tmp_path_factory.mktemp("world")
    painted = [draw(random_creature(np.random.RandomState(3)), 96)[0][:HEIGHT]] * COUNT
    frames = torch.from_numpy(np.stack(painted).copy())
    mask = torch.zeros(COUNT, HEIGHT, WIDTH, 3, dtype=torch.uint8)
    red, blue = torch.tensor([RED, BLUE], dtype=torch.uint8)
    for index in range(COUNT):
        mask[index, 20:44, 4 + index : 24 + index] = 255
        frames[index, 20:44, 4 + index : 24 + index] = red
    write_video(folder / "clip.mkv", frames, 8, lossless=True)
    write_video(folder / "mask.mkv", mask, 8, lossless=True)
    for index, name in ((0, "first"), (3, "later")):
        edited = frames[index].clone()
        edited[20:44, 4 + index : 24 + index] = blue
        write_image(folder / f"{name}.png", edited)
    return folder


def model_of(world: Path, variant: str, family: str = "wan") -> dict[str, str]:
    shelf = FAMILIES.load(family)
    source = world / f"{family}-{shelf.variants[variant].like or variant}"
    if not source.exists():
        shelf.save(shelf.tiny(variant), source)
    return {"family": family, "variant": variant, "source": str(source), "device": "cpu"}


def config_of(world: Path, variant: str = A14B, family: str = "wan", **sections: object) -> Config:
    tree = {
        "lora": {"rank": 2},
        "optimizer": {"lr": 1e-2},
        "model": model_of(world, variant, family),
    }
    return Config.model_validate(tree | sections)


def ask(world: Path, output: Path, **options: object) -> VideoEditRequest:
    tree: dict[str, object] = {
        "clip": world / "clip.mkv",
        "mask": world / "mask.mkv",
        "first": world / "first.png",
        "output": output,
        "caption": "a red box",
        "prompt": "a blue box",
        "extent": {"width": WIDTH, "height": HEIGHT},
        "stages": {"steps": 3, "appearance_steps": 3},
        "sampling": {"sampling_steps": 2, "guidance": 1.0},
    }
    for name, value in options.items():
        old = tree.get(name)
        tree[name] = (
            {**old, **value} if isinstance(old, dict) and isinstance(value, dict) else value
        )
    return VideoEditRequest.model_validate(tree)


def moved(path: Path) -> bool:
    ends = ("lora_B.weight", "lora_up.weight")
    return all(bool(v.any()) for name, v in load_file(path).items() if name.endswith(ends))


HEAVY = pytest.mark.slow  # they walk the code of the first


@pytest.mark.parametrize(
    ("family", "variant"),
    [
        ("wan", SMALL),
        pytest.param("wan", CLIP, marks=HEAVY),
        pytest.param("hunyuan_video", "1.5-480p-i2v", marks=HEAVY),
    ],
)
def test_both_stages_run_and_the_clip_is_sampled(world, tmp_path, family, variant):
    request = ask(world, tmp_path, edited={"3": world / "later.png"}, sampling={"seeds": (0, 1)})
    result = edit(request, config_of(world, variant, family))
    assert [path.name for path in result.clips] == ["seed-0.mp4", "seed-1.mp4"]
    assert all(decode(path).shape == (5, HEIGHT, WIDTH, 3) for path in result.clips)
    motion, appearance = tmp_path / "motion", tmp_path / "appearance"
    assert moved(motion / "lora.safetensors")
    states = [load_file(folder / "lora.safetensors") for folder in (motion, appearance)]
    assert any(not torch.equal(states[0][name], states[1][name]) for name in states[0])
    record = json.loads((result.clips[0].parent / "edit.json").read_text())
    assert (record["frames"], record["prompt"]) == (5, "a blue box")


def test_experts_are_both_taught(world, tmp_path):
    result = edit(ask(world, tmp_path, stages={"steps": 6}), config_of(world, A14B))
    files = [tmp_path / "motion" / f"lora-{name}.safetensors" for name in ("high", "low")]
    assert all(map(moved, files))
    assert len(result.clips) == 1
    assert not (tmp_path / "appearance").exists()  # no frame but the first was edited


def test_the_stages_show_what_the_method_shows(world, tmp_path):
    """Stage 1 is the clip with the box cleared after frame 0, stage 2 an edited frame as target."""
    config = config_of(world, A14B)
    request = ask(world, tmp_path, edited={"3": world / "later.png"})
    family, source = check_model(config)
    material = read_material(request, family.variants[source.variant])
    write_material(material, tmp_path / "data")
    stages = build_stages(config, request, material)
    vae = family.load_vae(source)
    prepared = prepare(stages[1].config)
    entries = {item.name: prepared.cache.load("latents", item.latents) for item in prepared.items}
    clip = (material.frames.permute(3, 0, 1, 2)[None].float() / 127.5) - 1
    box = material.edited
    cleared = clip * (1 - box)
    cleared[:, :, 0] = clip[:, :, 0]
    motion = entries["clip"].tensors
    assert torch.equal(motion["latents"], family.encode(vae, clip)[0])
    assert torch.equal(motion["condition"][:, 4:], family.encode(vae, cleared))
    mask = motion["condition"][0, :4]
    assert mask[:, 0].all()
    assert torch.equal(mask[:, 1], 1 - box[1:, ::8, ::8])  # 1 is kept: not as in a loss
    later = (material.pictures[3].permute(3, 0, 1, 2)[None].float() / 127.5) - 1
    appearance = entries["frame-00003"].tensors
    assert torch.equal(appearance["latents"], family.encode(vae, later)[0])
    still = clip[:, :, 3:4] * (1 - box[3])
    assert torch.equal(appearance["condition"][:, 4:], family.encode(vae, still))
    assert torch.equal(appearance["condition"][0, 0, 0], 1 - box[3, ::8, ::8])
    assert not any(item.weighs for item in prepared.items)
    both = build_stages(config, ask(world, tmp_path, region={"loss_mask": True}), material)
    assert both[0].config.data[0].mask_role == "both"
    sampled = build_condition(config, family, source, material)["condition"]
    assert torch.equal(sampled[:, :4], motion["condition"][:, :4])
    first = (material.first.permute(3, 0, 1, 2)[None].float() / 127.5) - 1
    cleared[:, :, :1] = first
    assert torch.equal(sampled[:, 4:], family.encode(vae, cleared))


def test_a_stopped_edit_goes_on_and_samples_again_without_training(world, tmp_path, monkeypatch):
    config = config_of(world, SMALL)
    request = ask(world, tmp_path / "one", edited={"3": world / "later.png"}, stages={"steps": 1})
    whole = edit(request, config)
    other = request.model_copy(update={"output": tmp_path / "two"})
    train, runs = recipe.train, []

    def stop(given: Config, **options: object) -> object:
        """Train halfway through the second stage, then be stopped."""
        runs.append(given.run.output.name)
        if given.run.output.name == "appearance" and len(runs) == 2:
            train(given.model_copy(update={"run": given.run.model_copy(update={"steps": 2})}))
            raise KeyboardInterrupt
        return train(given, **options)

    monkeypatch.setattr(recipe, "train", stop)
    with pytest.raises(KeyboardInterrupt):
        edit(other, config)
    assert runs == ["motion", "appearance"]
    result = edit(other, config)
    assert runs == ["motion", "appearance", "appearance"]
    for name in ("motion", "appearance"):
        for file in (tmp_path / "one" / name).glob("lora*.safetensors"):
            ours, theirs = load_file(file), load_file(tmp_path / "two" / name / file.name)
            assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert torch.equal(decode(result.clips[0]), decode(whole.clips[0]))
    again = other.model_copy(
        update={"stages": other.stages.model_copy(update={"sample_only": True})}
    )
    repeated = edit(again, config)
    assert len(runs) == 3
    assert repeated.clips[0] != result.clips[0]
    assert torch.equal(decode(repeated.clips[0]), decode(result.clips[0]))
    with pytest.raises(ConfigError, match=r"the motion stage in .* is not of these inputs"):
        edit(again.model_copy(update={"caption": "another"}), config)


def test_a_model_without_a_first_frame_is_refused_by_name(world, tmp_path):
    with pytest.raises(ConfigError, match=r"2.1-t2v-1.3b is shown no frame.*--variant 2.1-i2v-14b"):
        check_model(Config.model_validate({"model": {"family": "wan"}}))
    with pytest.raises(ConfigError, match=r"--family wan --variant 2.1-i2v-14b-480p"):
        check_model(Config.model_validate({"model": {"family": "flux"}}))
    lost = {"family": "wan", "variant": A14B, "source": str(tmp_path / "lost")}
    with pytest.raises(WeightsNotFound, match="lost is not there"):
        edit(ask(world, tmp_path / "out"), Config.model_validate({"model": lost}))
    model = config_of(world, SMALL).model
    copied = shutil.copytree(model.source, tmp_path / "torn")
    next((copied / "vae").glob("*.safetensors")).unlink()
    torn = Config(model=model.model_copy(update={"source": str(copied)}))
    with pytest.raises(WeightsNotFound, match=r"vae has no \.safetensors weights"):
        edit(ask(world, tmp_path / "out"), torn)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"extent": {"frames": 6}}, r"--frames 6: .* the nearest is --frames 5"),
        ({"extent": {"frames": 9}}, r"clip.mkv has 6; the nearest is --frames 5"),
        ({"extent": {"width": 90}}, r"--width 90 --height 64: .* nearest is 96 x 64"),
        ({"extent": {"height": None}}, "--width and --height go together"),
        ({"edited": {"5": "later.png"}}, "--edited 5=.*the edit has 5 frames, 0 to 4"),
        ({"first": "square.png"}, r"--first .*square.png is 64 x 64 .* its clip is 96 x 64"),
        ({"caption": ""}, r"say what the clip shows, --caption"),
        ({"mask": "black.png"}, "black.png marks nothing"),
        ({"mask": "white.png"}, "white.png leaves nothing of the clip: 100%"),
    ],
)
def test_what_does_not_go_together_is_refused_before_any_work(world, tmp_path, options, words):
    write_image(world / "square.png", torch.zeros(64, 64, 3, dtype=torch.uint8))
    write_image(world / "black.png", torch.zeros(HEIGHT, WIDTH, 3, dtype=torch.uint8))
    write_image(world / "white.png", torch.full((HEIGHT, WIDTH, 3), 255, dtype=torch.uint8))
    paths = {
        name: {key: world / file for key, file in value.items()}
        if name == "edited"
        else world / value
        for name, value in options.items()
        if name in ("edited", "first", "mask")
    }
    with pytest.raises(ConfigError, match=words):
        edit(ask(world, tmp_path / "out", **(options | paths)), config_of(world))
    assert not (tmp_path / "out").exists()


def test_a_mask_of_another_length_or_aspect_is_refused(world, tmp_path):
    write_video(
        world / "short.mkv", torch.zeros(4, HEIGHT, WIDTH, 3, dtype=torch.uint8), 8, lossless=True
    )
    write_image(world / "wide.png", torch.full((32, WIDTH, 3), 255, dtype=torch.uint8))
    card = FAMILY.variants[A14B]
    with pytest.raises(BadMedia, match="4"):
        read_material(ask(world, tmp_path, mask=world / "short.mkv"), card)
    with pytest.raises(MaskMismatch, match="aspect ratios differ"):
        read_material(ask(world, tmp_path, mask=world / "wide.png"), card)


def test_a_frame_with_nothing_edited_is_no_lesson(world, tmp_path):
    mask = decode(world / "mask.mkv")
    mask[3] = 0
    write_video(world / "gap.mkv", mask, 8, lossless=True)
    options = {"mask": world / "gap.mkv", "edited": {"3": world / "later.png"}}
    card = FAMILY.variants[A14B]
    with pytest.raises(ConfigError, match=r"--edited 3.*marks nothing in that frame"):
        read_material(ask(world, tmp_path, **options), card)
    filled = read_material(ask(world, tmp_path, **options, region={"boxes": "all"}), card)
    assert torch.equal(filled.edited[3], filled.edited[1])


def test_a_first_frame_changed_beside_the_mask_is_told(world, tmp_path, caplog):
    write_image(world / "other.png", 255 - decode(world / "first.png")[0])
    card = FAMILY.variants[A14B]
    read_material(ask(world, tmp_path), card)
    assert "outside the edited region" not in caplog.text
    read_material(ask(world, tmp_path, first=world / "other.png"), card)
    assert "--first: outside the edited region it differs" in caplog.text


def test_files_of_the_user_are_never_written_over(world, tmp_path):
    theirs = tmp_path / "project" / "data"
    theirs.mkdir(parents=True)
    shutil.copy(world / "first.png", theirs / "first.png")
    with pytest.raises(ConfigError, match="its data/ is not an edit's"):
        edit(ask(world, tmp_path / "project"), config_of(world))
    ours = tmp_path / "edit" / "data"
    ours.mkdir(parents=True)
    (ours / ".frisket-edit").touch()
    shutil.copy(world / "first.png", ours / "first.png")
    with pytest.raises(ConfigError, match=r"--first .*first\.png lies in .*data"):
        edit(ask(world, tmp_path / "edit", first=ours / "first.png"), config_of(world))
    assert (theirs / "first.png").read_bytes() == (world / "first.png").read_bytes()


@pytest.mark.parametrize(
    ("sections", "options", "words"),
    [
        ({"model": {"train": "all"}}, {}, 'train = "all" is not for it'),
        ({"losses": {"prior": 1.0}}, {}, "nothing for it to hold"),
        ({"lora": {"rank": 2, "confine": 0}}, {}, "no region to stay in"),
        ({}, {"overrides": ("run.steps=500",)}, "--set run.steps=500: an edit takes model"),
        ({}, {"overrides": ("preview.every=5",)}, "--set preview.every=5"),
    ],
)
def test_settings_that_would_be_left_out_are_refused(world, tmp_path, sections, options, words):
    model = model_of(world, A14B) | sections.pop("model", {})
    config = config_of(world, model=model, **sections)
    with pytest.raises(ConfigError, match=words):
        edit(ask(world, tmp_path / "out", **options), config)
    assert not (tmp_path / "out").exists()


def test_what_begins_anew_leaves_nothing_old_behind(world, tmp_path, monkeypatch):
    """Stopped before its first step, it must not go on from the checkpoints of other settings."""
    output = tmp_path / "out"
    edit(ask(world, output), config_of(world))
    config = config_of(world, optimizer={"lr": 1e-2, "schedule": "linear"})

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(recipe, "train", stop)
    with pytest.raises(KeyboardInterrupt):
        edit(ask(world, output), config)
    assert not list((output / "motion").glob("checkpoints/*"))
    assert not list((output / "motion").glob("lora*.safetensors"))
    assert list((output / "motion").glob("checkpoints.*"))


def test_boxes_are_loose_and_whole_cells():
    grid = FAMILY.variants[A14B].grid
    plane = torch.zeros(3, 64, 96)
    plane[:, 20:40, 20:44] = 1
    region = ask(Path(), Path()).region
    cells = loosen(plane, region, grid)
    wanted = torch.zeros(64, 96)
    wanted[16:48, 16:48] = 1  # 20 +- 1 and 44 + 1, in cells of 16
    assert torch.equal(cells[0], wanted)
    plane[:, 20:26, 20:26] = 0.4
    mask = loosen(plane, region.model_copy(update={"mask_shape": "mask"}), grid)
    assert torch.equal(mask[0], wanted)
    with pytest.raises(ConfigError, match="nothing after the first frame"):
        loosen(torch.cat([plane[:1], plane[1:] * 0.4]), region, grid)


def test_laying_back_leaves_the_rest_as_it_was():
    original = torch.randint(256, (2, 64, 96, 3), dtype=torch.uint8)
    sampled = 255 - original
    edited = torch.zeros(2, 64, 96)
    edited[:, 16:32, 16:32] = 1
    for pixels in (0.0, 4.0):
        laid = lay_back(sampled, original, edited, pixels)
        assert torch.equal(laid[:, 16:32, 16:32], sampled[:, 16:32, 16:32])
        far = int(2.5 * pixels) + 1
        rest = torch.ones(64, 96, dtype=torch.bool)
        rest[16 - far : 32 + far, 16 - far : 32 + far] = False
        assert torch.equal(laid[:, rest], original[:, rest])


def test_clean_tokens_carry_no_loss(world, tmp_path):
    """TI2V-5B is handed what is kept: the box alone is left to learn, and that is told."""
    config = config_of(world, SMALL)
    request = ask(world, tmp_path)
    family, source = check_model(config)
    material = read_material(request, family.variants[source.variant])
    write_material(material, tmp_path / "data")
    prepared = prepare(build_stages(config, request, material)[0].config)
    (item,) = prepared.items
    tensors = prepared.cache.load("latents", item.latents).tensors
    mask = tensors[CLEAN_MASK][0, 0]
    assert torch.equal(mask[1], 1 - material.edited[1:].amax(0)[::16, ::16])
    assert torch.equal(tensors["clean"][0], tensors["latents"])


def test_the_command_edits_a_clip(world, tmp_path):
    model = model_of(world, SMALL)
    words = ["edit", world / "clip.mkv", "--mask", world / "mask.mkv"]
    words += ["--first", world / "first.png"]
    words += [word for name, value in model.items() for word in (f"--{name}", value)]
    words += ["--caption", "a red box", "--width", WIDTH, "--height", HEIGHT, "--steps", 1]
    words += ["--edited", f"3={world / 'later.png'}", "--appearance-steps", 1, "--guidance", 1]
    words += ["--sampling-steps", 1, "--rank", 2, "--composite", "--feather", 2]
    words += ["-o", tmp_path / "out"]
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    clip = tmp_path / "out" / "samples" / "001" / "seed-0.mp4"
    assert str(clip) in result.output
    original = decode(world / "clip.mkv")[:5]
    write_video(tmp_path / "lossy.mp4", original, 8)
    rest = [decode(path)[:, :, 80:].float() for path in (clip, tmp_path / "lossy.mp4")]
    ours, lossy = ((frames - original[:, :, 80:]).abs().mean() for frames in rest)
    assert ours < lossy + 2  # laid back: as the clip is through H.264
    wrong = CliRunner().invoke(app, [*map(str, words), "--edited", "first.png"])
    assert "write it as FRAME=FILE" in str(wrong.exception)

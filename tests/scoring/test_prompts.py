"""What is sampled: the subject by the run's own words, and prompts that have none of it."""

from pathlib import Path
from typing import Any

import pytest

from frisket.config.load import ConfigError
from frisket.config.tree import Config
from frisket.runs import quickstart_data
from frisket.scoring.prompts import CAPTIONS, EvalPrompts, choose_prompts


def asked(config: Config, **changes: Any) -> EvalPrompts:
    options = {"prompts": (), "unrelated": (), "seeds": 2, "images": ()} | changes
    variant = options.pop("variant", "image")
    return choose_prompts(config, variant, **options)


def config_of(folder: Path, trigger: str = "", **preview: Any) -> Config:
    data = [{"clips": folder / "clips", "trigger": trigger}]
    return Config.model_validate({"data": data, "preview": preview})


def prompts(of: EvalPrompts) -> list[str]:
    return list(dict.fromkeys(shot.prompt for shot in of.subject))


def test_the_trigger_then_previews_then_captions(tmp_path: Path) -> None:
    quickstart_data.make_clips(tmp_path, seed=0)
    captioned = asked(config_of(tmp_path))
    assert prompts(captioned) == ["sks"]
    assert captioned.origin == "captions of the training clips"
    assert [shot.seed for shot in captioned.subject] == [0, 1]
    assert prompts(asked(config_of(tmp_path, prompts=["sks on a wall"]))) == ["sks on a wall"]
    triggered = config_of(tmp_path, "sks", prompts=["sks on a wall"])
    assert prompts(asked(triggered)) == ["sks"]
    assert prompts(asked(triggered, prompts=["one", "two"])) == ["one", "two"]


def test_not_every_caption_of_a_large_set_is_sampled(tmp_path: Path) -> None:
    quickstart_data.make_clips(tmp_path, seed=0)
    for number in range(quickstart_data.CLIPS):
        (tmp_path / "clips" / f"{number}.txt").write_text(f"creature {number}")
    assert len(prompts(asked(config_of(tmp_path)))) == CAPTIONS


def test_a_subject_without_a_name_is_asked_for(tmp_path: Path) -> None:
    quickstart_data.make_clips(tmp_path, seed=0)
    for path in tmp_path.glob("clips/*.txt"):
        path.unlink()
    with pytest.raises(ConfigError, match=r'nothing names the subject.*--prompt "\.\.\."'):
        asked(config_of(tmp_path))


def test_unrelated_prompts_have_none_of_the_subject(tmp_path: Path) -> None:
    config = config_of(tmp_path, "sks")
    with pytest.raises(ConfigError, match="holds the trigger 'sks'"):
        asked(config, unrelated=["a photo of SKS, close"])
    assert [shot.prompt for shot in asked(config, unrelated=["sksy"]).unrelated] == ["sksy"]


@pytest.mark.parametrize(
    ("family", "variant", "count", "one"),
    [
        ("pocket", "image", 8, "a black cross on a yellow wall"),
        ("pocket", "video", 8, "a black cross on a yellow wall"),
        ("flux", "dev", 8, "a cat asleep on a sofa"),
        ("wan", "2.1-t2v-1.3b", 6, "waves rolling onto a beach at sunset"),
    ],
)
def test_every_kind_of_family_has_a_list(
    tmp_path: Path, family: str, variant: str, count: int, one: str
) -> None:
    config = config_of(tmp_path, "sks").model_copy(
        update={"model": Config().model.model_copy(update={"family": family, "variant": variant})}
    )
    made = asked(config, variant=variant)
    listed = [shot.prompt for shot in made.unrelated]
    assert len(listed) == count
    assert one in listed
    assert {shot.seed for shot in made.unrelated} == {0}


def test_settings_are_those_of_the_previews(tmp_path: Path) -> None:
    made = asked(config_of(tmp_path, "sks", steps=3, guidance=1.5, negative="blurry"))
    assert {(shot.steps, shot.guidance, shot.negative) for shot in made.all} == {(3, 1.5, "blurry")}


def test_a_model_that_starts_from_pictures_asks_for_one(tmp_path: Path) -> None:
    model = Config().model.model_copy(update={"family": "wan", "variant": "2.2-i2v-a14b"})
    config = config_of(tmp_path, "sks").model_copy(update={"model": model})
    with pytest.raises(ValueError, match="give one picture"):
        asked(config, variant="2.2-i2v-a14b")
    made = asked(config, variant="2.2-i2v-a14b", images=[tmp_path / "first.png"])
    assert {shot.images for shot in made.all} == {(tmp_path / "first.png",)}

"""Rules from phrases to regions, the table a user edits, and its mistakes."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frisket.maskgen.text.phrases import Phrase, find_noun_phrases, parse_phrases
from frisket.maskgen.text.rules import BadRules, RegionRule, RegionRules, default, dump, plan, read


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("phrase", "region"),
    [
        ("green eyes", "face"),
        ("gold-rimmed glasses", "face"),
        ("long blonde hair", "hair"),
        ("beards", "hair"),
        ("hands", "hands"),
        ("red leather jackets", "clothes"),
        ("white tank top", "clothes"),
        ("dresses", "clothes"),
        ("young woman", "body"),
        ("women", "body"),
        ("children", "body"),
        ("cup of coffee", "subject"),
        ("golden retriever puppy", "subject"),
        ("watermark", "background"),
        ("quasar", ""),
    ],
)
def test_default_region_of_a_phrase(phrase: str, region: str) -> None:
    assert default().region(Phrase(phrase)) == region


def test_what_is_trained_is_the_subject_unless_it_is_a_person() -> None:
    assert default().region(Phrase("castle", is_subject=True)) == "subject"
    assert default().region(Phrase("red hat", is_subject=True)) == "subject"
    assert default().region(Phrase("woman", is_subject=True)) == "body"


def test_settings_are_background_even_where_they_are_people() -> None:
    assert default().region(Phrase("crowd", setting=True)) == "background"
    assert default().region(Phrase("man", setting=True)) == "background"


def test_a_caption_becomes_a_plan() -> None:
    caption = "a photo of sks woman with long hair in a red jacket on a beach, blue quasar"
    found = plan(find_noun_phrases(caption, "sks", "woman"), default())
    assert found.regions == {
        "hair": ("long hair",),
        "clothes": ("red jacket",),
        "body": ("woman",),
    }
    assert list(found.regions) == ["hair", "clothes", "body"]
    assert found.ignored == ("beach",)
    assert found.left == ("blue quasar",)
    told = " ".join(found.list_notes())
    assert "beach" in told
    assert "blue quasar" in told


def test_an_empty_plan_says_so() -> None:
    assert plan([], default()).list_notes() == [
        "No phrase belongs to a region, so there is nothing to look for."
    ]


def test_regions_named_by_hand_are_kept_and_come_first() -> None:
    found = plan(parse_phrases("logo = watermark; face; red kite"), default())
    assert list(found.regions.items()) == [
        ("logo", ("watermark",)),
        ("face", ("face",)),
        ("subject", ("red kite",)),
    ]


def test_patterns_are_ends_of_phrases_or_globs_of_the_whole() -> None:
    assert RegionRule(("jacket",), "r").holds(Phrase("red jackets"))
    assert not RegionRule(("jacket",), "r").holds(Phrase("jacket pocket"))
    assert not RegionRule(("cap",), "r").holds(Phrase("landscap"))
    assert RegionRule(("leather jacket",), "r").holds(Phrase("black leather jackets"))
    assert not RegionRule(("leather jacket",), "r").holds(Phrase("jacket"))
    assert RegionRule(("* coat",), "r").holds(Phrase("fur coats"))
    assert not RegionRule(("* coat",), "r").holds(Phrase("coat"))


def test_the_first_rule_wins_and_the_user_s_come_before_the_default(tmp_path: Path) -> None:
    path = written(
        tmp_path / "rules.toml",
        "[[rule]]\nmatch = ['raincoat', '* kite']\nregion = 'logo'\n"
        "[[rule]]\nmatch = 'raincoat'\nregion = 'never'\n[clean.logo]\nfeather = 3\n",
    )
    rules = read(path)
    assert rules.region(Phrase("yellow raincoat")) == "logo"
    assert rules.region(Phrase("red kite")) == "logo"
    assert rules.region(Phrase("jacket")) == "clothes"
    assert rules.priority == default().priority
    assert rules.clean == {"logo": {"feather": 3}}


def test_the_dumped_table_reads_back_as_the_default_one(tmp_path: Path) -> None:
    assert read(written(tmp_path / "rules.toml", dump())) == default()


def test_a_rule_taken_out_of_the_dumped_table_is_gone(tmp_path: Path) -> None:
    rules = read(written(tmp_path / "rules.toml", dump().replace('"beanie", ', "")))
    assert not rules.region(Phrase("beanie"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[rule]]\nmatch = ['a' 'b']\n", "line 2, column 14"),
        ("[[rules]]\nmatch = ['a']", "did you mean 'rule'?"),
        ("[[rule]]\nmatch = ['a']\nregoin = 'b'", "rule 1: there is no 'regoin' here, did you"),
        ("[[rule]]\nmatch = ['a']", "rule 1: region is None"),
        ("[[rule]]\nregion = 'a'", "rule 1 matches nothing"),
        ("[[rule]]\nmatch = [3]\nregion = 'a'", "rule 1: match is [3]"),
        ("[[rule]]\nmatch = ['a']\nregion = 'a'\nonly = 'setings'", "did you mean 'setting'?"),
        ("[rule]\nmatch = ['a']", "two brackets"),
        ("rule = ['a']", "two brackets"),
        ("defaults = 'no'", "use true or false"),
        ("clean = { face = 3 }", "[clean.face]"),
        ("priority = [1]", "priority is [1]"),
    ],
)
def test_a_bad_table_is_told_with_file_place_and_fix(tmp_path: Path, text: str, said: str) -> None:
    path = written(tmp_path / "mine.toml", text)
    with pytest.raises(BadRules) as error:
        read(path)
    assert str(path) in str(error.value)
    assert said in str(error.value)


def test_a_file_that_is_not_there_or_no_text(tmp_path: Path) -> None:
    with pytest.raises(BadRules, match="no such file"):
        read(tmp_path / "none.toml")
    (tmp_path / "latin.toml").write_bytes(b"# caf\xe9")
    with pytest.raises(BadRules, match=r"byte 0xe9 is not UTF-8.* at line 1, column 6"):
        read(tmp_path / "latin.toml")


WORDS = st.sampled_from(["red", "jacket", "jackets", "hair", "woman", "quasar", "beach", "face"])
PHRASES = st.builds(
    Phrase,
    text=st.lists(WORDS, min_size=1, max_size=3).map(" ".join),
    is_subject=st.booleans(),
    setting=st.booleans(),
)


@given(st.lists(PHRASES, max_size=8))
def test_every_phrase_is_planned_ignored_or_told(phrases: list[Phrase]) -> None:
    found = plan(phrases, default())
    asked = {text for texts in found.regions.values() for text in texts}
    assert asked | set(found.ignored) | set(found.left) == {phrase.text for phrase in phrases}
    assert "background" not in found.regions
    assert default().order(found.regions) == list(found.regions)


def test_rules_without_priority_keep_the_order_of_the_phrases() -> None:
    rules = RegionRules((RegionRule(("a",), "first"), RegionRule(("b",), "second")))
    assert list(plan([Phrase("b"), Phrase("a")], rules).regions) == ["second", "first"]

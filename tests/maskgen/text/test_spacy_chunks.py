"""Captions read by a real spaCy parser: a tiny one, trained here on captions parsed by hand."""

import importlib.metadata
import sys
import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.maskgen.tiny.spacy_pipeline import NAME, install, train

from frisket.maskgen.base import BackendUnusable
from frisket.maskgen.text.chunks import ReadChunks
from frisket.maskgen.text.phrases import find_noun_phrases, survey_captions
from frisket.maskgen.text.spacy_chunks import load_reader

TABLE = tomllib.loads(Path(__file__).with_name("parsed_captions.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> ReadChunks:
    pytest.importorskip("spacy")
    folder = tmp_path_factory.mktemp("packages")
    install(train(TABLE["captions"]), folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        importlib.invalidate_caches()
        return load_reader(NAME)


@pytest.mark.slow
def test_captions_are_read_by_their_parse(reader: ReadChunks) -> None:
    for caption, _, _, _, trigger, class_word, expected in TABLE["captions"]:
        phrases = find_noun_phrases(caption, trigger, class_word, read=reader)
        text = " | ".join(p.text + "*" * p.is_subject + "~" * p.setting for p in phrases)
        assert text == expected, caption


@pytest.mark.slow
def test_a_trigger_that_is_no_noun_is_still_the_subject(reader: ReadChunks) -> None:
    subject, boots = find_noun_phrases("she wears a pair of leather boots", "wears", read=reader)
    assert (subject.text, subject.is_subject) == ("person", True)
    assert "trigger stands alone" in subject.note
    assert boots.text == "leather boots"


@pytest.mark.slow
def test_a_data_set_is_read_by_it_too(reader: ReadChunks) -> None:
    survey = survey_captions([("a", "the background shows a car"), ("b", "")], read=reader)
    assert [concept.phrase.text for concept in survey.concepts] == ["car"]


@pytest.mark.slow
@given(st.text(max_size=60), st.sampled_from(["", "sks", "a (b", "[x]"]))
@settings(deadline=None)
def test_any_text_gives_distinct_lower_case_phrases(
    reader: ReadChunks, text: str, trigger: str
) -> None:
    texts = [phrase.text for phrase in find_noun_phrases(text, trigger, read=reader)]
    assert len(set(texts)) == len(texts) <= 8
    assert all(text and text == text.strip() == text.lower() for text in texts)


@pytest.mark.slow
def test_a_pipeline_that_finds_no_phrases_is_refused(tmp_path: Path) -> None:
    spacy = pytest.importorskip("spacy")
    install(spacy.blank("en"), tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        patch.delitem(sys.modules, NAME, raising=False)
        with pytest.raises(BackendUnusable, match=r"finds no noun phrases.*en_core_web_sm"):
            load_reader(NAME)


@pytest.mark.slow
def test_only_installed_pipelines_are_loaded(tmp_path: Path) -> None:
    pytest.importorskip("spacy").blank("en").to_disk(tmp_path / "folder")
    for name in (str(tmp_path / "folder"), "en_core_web_none"):
        with pytest.raises(BackendUnusable, match=r"is no spaCy pipeline.*spacy download"):
            load_reader(name)


def test_without_spacy_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "spacy", None)
    with pytest.raises(BackendUnusable, match=r"not installed.*frisket\[spacy\]"):
        load_reader("en_core_web_sm")


@pytest.mark.slow
def test_a_pipeline_that_fails_to_load_says_why(tmp_path: Path) -> None:
    install(pytest.importorskip("spacy").blank("en"), tmp_path)
    (tmp_path / NAME / "__init__.py").write_text("raise RuntimeError('made for spaCy 2')\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        patch.delitem(sys.modules, NAME, raising=False)
        with pytest.raises(BackendUnusable, match=r"does not load: made for spaCy 2"):
            load_reader(NAME)

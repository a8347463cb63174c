"""`frisket masks --noun-phrases`: captions read by a spaCy pipeline, and what is refused of it."""

import importlib
import sys

import pytest
from pydantic import ValidationError
from tests.maskgen.tiny import grounding
from tests.maskgen.tiny.spacy_pipeline import NAME, install, train
from tests.recipes.mask_runs import run

from frisket.config.load import ConfigError, read_request
from frisket.config.maskgen import MaskGeneration, MaskRequest
from frisket.maskgen.base import BackendUnusable
from frisket.maskgen.files import record

CAPTION = "eine Frau mit roter Jacke"  # the word lists keep a caption that is not English whole
PARSE = ("DET NOUN ADP ADJ NOUN", [1, 1, 1, 4, 2], "nk ROOT mnr nk nk")


@pytest.fixture
def german(clips, monkeypatch):
    """A pipeline that is installed, and clips with captions that it reads."""
    pytest.importorskip("spacy")
    (clips / "broken.png").unlink()
    for name in ("ada", "sky"):
        (clips / f"{name}.txt").write_text(CAPTION)
    packages = clips.parent / "packages"
    packages.mkdir()
    install(train([[CAPTION, *PARSE]], "de"), packages)
    monkeypatch.syspath_prepend(packages)
    monkeypatch.delitem(sys.modules, NAME, raising=False)
    importlib.invalidate_caches()
    return clips.parent


@pytest.mark.slow
def test_captions_are_read_by_an_installed_pipeline(german, tmp_path):
    options = {
        "backends": ("clipseg",),
        "sources": {"clipseg": str(grounding.clipseg(tmp_path / "clipseg"))},
        "thresholds": {"clipseg": {"threshold": 0.01}},  # random weights pass it everywhere
        "from_captions": True,
        "everything_but": True,
    }
    settings = []
    for reader in ("", f"spacy:{NAME}"):
        made = run(german, noun_phrases=reader, **options)
        assert "done before" not in made.counts, reader
        settings.append(record.load(german / "masks" / "ada.json").settings)
        assert run(german, noun_phrases=reader, **options).counts == {"done before": 2}
    words, spacy = settings
    assert words["wanted"] == {"left out": [CAPTION.lower()]}
    assert "noun_phrases" not in words  # as it was written before there was the option
    assert spacy["wanted"] == {"left out": ["frau", "roter jacke"]}
    assert spacy["noun_phrases"] == f"spacy:{NAME}"


@pytest.mark.parametrize(
    ("reader", "options", "message"),
    [
        ("nltk:treebank", {"from_captions": True}, "'nltk:treebank'.*spacy:en_core_web_sm"),
        ("spacy:", {"from_captions": True}, "'spacy:'.*spacy:en_core_web_sm"),
        ("spacy:en_core_web_sm", {"phrases": "face"}, "--from-captions; give that too"),
        ("spacy:en_core_web_sm", {"from_captions": True}, r"not installed.*frisket\[spacy\]"),
    ],
)
def test_what_reads_nothing_is_refused_before_any_work(
    clips, monkeypatch, reader, options, message
):
    monkeypatch.setitem(sys.modules, "spacy", None)
    with pytest.raises(BackendUnusable, match=message):
        run(clips.parent, backends=("clipseg",), noun_phrases=reader, **options)
    assert not (clips.parent / "masks").exists()


def test_no_file_names_the_code_that_reads_captions(tmp_path):
    path = tmp_path / "theirs.toml"
    path.write_text(f'noun_phrases = "spacy:{NAME}"\n')
    with pytest.raises(ConfigError, match="noun_phrases"):
        read_request(MaskRequest, {("folder",): (tmp_path, "."), ("config",): (path, "--config")})
    for section in ("prompts", "maskgen"):
        tree = {"noun_phrases": f"spacy:{NAME}"}
        with pytest.raises(ValidationError, match="noun_phrases"):
            MaskGeneration.model_validate({"prompts": tree} if section == "prompts" else tree)

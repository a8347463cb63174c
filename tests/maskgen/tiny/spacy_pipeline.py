"""A spaCy pipeline trained on captions parsed by hand, installed as a package of its own."""

from pathlib import Path

NAME = "xx_captions_tiny"
ROUNDS = 40


def train(captions: list[list], language: str = "en"):
    """A tagger and a parser that know these captions by heart."""
    import spacy
    from spacy.tokens import Doc
    from spacy.training import Example
    from spacy.util import fix_random_seed

    fix_random_seed(0)
    pipeline = spacy.blank(language)
    pipeline.add_pipe("morphologizer")
    pipeline.add_pipe("parser", config={"min_action_freq": 1})
    examples = []
    for text, kinds, heads, dependencies, *_ in captions:
        doc = pipeline.make_doc(text)
        parts = kinds.split()
        parse = {"pos": parts, "morphs": [""] * len(parts), "deps": dependencies.split()}
        words = [token.text for token in doc]
        spaces = [bool(token.whitespace_) for token in doc]
        known = Doc(pipeline.vocab, words=words, spaces=spaces, heads=heads, **parse)
        examples.append(Example(doc, known))
    pipeline.initialize(lambda: examples)
    for _ in range(ROUNDS):
        pipeline.update(examples)
    return pipeline


def install(pipeline, folder: Path) -> None:
    """Write a pipeline as the package that `python -m spacy download` installs."""
    package = folder / NAME
    package.mkdir()
    pipeline.to_disk(package / f"{NAME}-0.1")
    (package / "meta.json").write_text((package / f"{NAME}-0.1" / "meta.json").read_text())
    (package / "__init__.py").write_text(
        "from pathlib import Path\n"
        "from spacy.util import load_model_from_path\n"
        "def load(**overrides):\n"
        f"    return load_model_from_path(Path(__file__).parent / '{NAME}-0.1', **overrides)\n"
    )
    record = folder / f"{NAME}-0.1.dist-info"
    record.mkdir()
    (record / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {NAME}\nVersion: 0.1\n")

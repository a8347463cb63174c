"""Prompt files, in the notation that users of kohya's trainers know."""

from pathlib import Path

import pytest

from frisket.config.load import ConfigError
from frisket.runs.sampling.prompt_file import PromptLine, read_prompts


def written(folder: Path, text: str) -> Path:
    file = folder / "prompts.txt"
    file.write_text(text, encoding="utf-8")
    return file


def test_a_prompt_a_line_with_comments_and_options(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        "# a comment\n\n"
        "a red fox -- well, a dog-like one --w 640 --h 480 --f 25 --d 7 --s 20 --l 6.5\n"
        "  ein großer Ring --n blurry, --- low quality  --G 1\n"
        "a sofa --i in/a.png --ci /b.png\n"
        "--d 3\n",
    )
    fox, ring, sofa, empty = read_prompts(file)
    options = {"width": 640, "height": 480, "frames": 25, "seed": 7, "steps": 20, "guidance": 6.5}
    assert fox == PromptLine("a red fox -- well, a dog-like one", options)
    assert ring == PromptLine(
        "ein großer Ring", {"negative": "blurry, --- low quality", "guidance": 1.0}
    )
    assert sofa.options["images"] == (tmp_path / "in/a.png", Path("/b.png"))
    assert empty == PromptLine("", {"seed": 3})


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("a cat --w wide", r"prompts\.txt, line 2: --w takes a whole number from 1 on, not 'wide'"),
        ("a cat --s 0", "line 2: --s takes a whole number from 1 on, not '0'"),
        ("a cat --d -1", "line 2: --d takes a whole number from 0 to"),
        ("a cat --l nan", "line 2: --l takes a number, not 'nan'"),
        ("a cat --fs 3", "line 2: --fs is no option of a prompt; there are --n negative"),
        ("a cat --l 5 --g 2", "line 2: --g says 2, but guidance is 5.0 on that line"),
        ("a cat --w 64 --w 32", "line 2: --w says 32, but width is 64"),
    ],
)
def test_a_wrong_option_is_refused_with_its_line(tmp_path: Path, line: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read_prompts(written(tmp_path, f"a dog\n{line}\n"))


def test_files_that_are_no_prompt_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.txt cannot be read: No such file"):
        read_prompts(tmp_path / "none.txt")
    (tmp_path / "latin.txt").write_bytes("Größe".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"latin\.txt is not UTF-8 \(byte 2\)"):
        read_prompts(tmp_path / "latin.txt")
    (tmp_path / "empty.txt").write_text("# nothing\n")
    with pytest.raises(ConfigError, match="holds no prompt"):
        read_prompts(tmp_path / "empty.txt")

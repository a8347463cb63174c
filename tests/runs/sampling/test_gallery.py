"""Samples are never written over, and one page lays them side by side."""

import json
from pathlib import Path

from frisket.runs.sampling.gallery import new_folder, write_gallery


def sampled(folder: Path, *, strength: float | None, prompt: str = "a ring & more") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    file = "000-a ring-0.png"
    (folder / file).write_bytes(b"")
    record = {
        "lora": []
        if strength is None
        else [{"path": "runs/x/lora.safetensors", "strength": strength}],
        "pictures": [
            {
                "file": file,
                "lora": strength is not None,
                **{"prompt": prompt, "seed": 0, "steps": 3, "guidance": 2.5},
            }
        ],
    }
    (folder / "generate.json").write_text(json.dumps(record))


def test_every_call_has_a_folder_of_its_own(tmp_path: Path) -> None:
    samples = tmp_path / "samples"
    assert [new_folder(None, samples).name for _ in range(3)] == ["001", "002", "003"]


def test_a_folder_that_holds_samples_gets_a_number(tmp_path: Path) -> None:
    asked = tmp_path / "pictures"
    assert new_folder(asked, tmp_path) == asked
    (asked / "notes.txt").touch()
    assert new_folder(asked, tmp_path) == asked
    sampled(asked, strength=1.0)
    assert new_folder(asked, tmp_path) == tmp_path / "pictures-2"
    assert new_folder(asked, tmp_path) == tmp_path / "pictures-3"


def test_the_page_has_prompts_down_and_strengths_across(tmp_path: Path) -> None:
    sampled(tmp_path / "001", strength=None)
    sampled(tmp_path / "002", strength=0.5)
    sampled(tmp_path / "003", strength=1.0, prompt="another")
    (tmp_path / "004").mkdir()
    (tmp_path / "004" / "generate.json").write_text("[1, 2")
    page = write_gallery(tmp_path)
    assert page is not None
    text = page.read_text()
    assert text.index("x lora x 1") < text.index("x lora x 0.5") < text.index(">base<")
    assert "a ring &amp; more" in text
    assert 'src="002/000-a%20ring-0.png"' in text
    assert text.count("not sampled") == 3
    assert write_gallery(tmp_path / "002") is None

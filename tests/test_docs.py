"""What the pages show runs as it is shown, and what they link to is there."""

import re
from pathlib import Path

import pytest
import torch

from frisket.losses.base import Step
from frisket.maskgen.base import CONTRACTS, ModelSource

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def test_the_example_of_a_loss_term_is_one():
    page = (ROOT / "docs" / "add-a-loss-term.md").read_text(encoding="utf-8")
    room: dict[str, object] = {"__name__": "shown"}
    exec(re.search(r"```python\n(.*?)```", page, re.DOTALL)[1], room)
    prediction = torch.randn(2, 4, 1, 6, 6, requires_grad=True)
    weights = (torch.rand(2, 1, 1, 6, 6) > 0.5).float()
    weights[1] = 0
    step = Step(
        prediction=prediction,
        target=torch.randn(2, 4, 1, 6, 6),
        t=torch.full((2,), 0.5),
        weights=weights,
        coverage=weights,
    )
    value = room["TERM"](bend=0.05)(step)
    value.sum().backward()
    assert value[0] > 0
    assert value[1] == 0
    assert torch.all(prediction.grad[(weights == 0).expand_as(prediction)] == 0)
    assert torch.all(prediction.grad[(weights != 0).expand_as(prediction)] != 0)
    with pytest.raises(ValueError, match="charbonnier: bend must be > 0"):
        room["TERM"](bend=0.0)


def test_the_example_of_a_mask_backend_is_one():
    page = (ROOT / "docs" / "add-a-mask-backend.md").read_text(encoding="utf-8")
    room: dict[str, object] = {"__name__": "shown"}
    exec(re.search(r"```python\n(.*?)```", page, re.DOTALL)[1], room)
    backend = room["BACKEND"]
    loaded = backend.load(ModelSource())
    assert all(isinstance(loaded, CONTRACTS[role]) for role in backend.roles)
    assert all(getattr(loaded, name) == value for name, value in backend.thresholds.items())
    picture = torch.zeros((20, 30, 3), dtype=torch.uint8)
    assert "nothing is as bright" in loaded.draft([picture])[0].unsure
    picture[5:10, 5:10] = 255
    (one,) = loaded.draft([picture])[0].instances
    assert one.mask.sum() == 25


def test_the_example_of_a_phrase_is_one():
    page = (ROOT / "docs" / "phrases.md").read_text(encoding="utf-8")
    room: dict[str, object] = {}
    exec(re.search(r"```python\n(.*?)```", page, re.DOTALL)[1], room)
    assert room["positions"] == (4, 5)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), target

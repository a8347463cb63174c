"""Two rooms of one floor guard norms; what they refuse and say is the same."""

import pytest
import torch

from frisket.adapters.image import guards
from frisket.faces import base


def test_border_and_words_are_the_same():
    for name in ("LEAST_RAW_NORM", "RAW_WANTED", "UNIT_WANTED"):
        assert getattr(guards, name) == getattr(base, name)


@pytest.mark.parametrize("form", ["raw", "unit"])
@pytest.mark.parametrize("norm", [0.4, 0.9, 1.0, 1.49, 1.51, 20.0])
def test_the_same_norms_pass(form, norm):
    rows = torch.nn.functional.normalize(torch.ones(1, 8, dtype=torch.float64)) * norm
    messages = []
    for check, error in (
        (lambda: base.check_norm(rows, form, "ada.pt"), base.EmbeddingMixup),
        (lambda: guards.check_embedding(rows, 8, form, "ada.pt"), guards.EmbeddingMismatch),
    ):
        try:
            check()
            messages.append("")
        except error as refusal:
            messages.append(str(refusal))
    assert messages[0] == messages[1]
    border = base.LEAST_RAW_NORM
    assert bool(messages[0]) == (norm < border if form == "raw" else norm >= border)


def test_only_adapters_let_the_row_of_nobody_pass():
    nobody = torch.zeros(1, 8)
    for form in ("raw", "unit"):
        guards.check_embedding(nobody, 8, form, "FaceID")
        with pytest.raises(base.EmbeddingMixup, match="holds no face"):
            base.check_norm(nobody, form, "ada.pt")

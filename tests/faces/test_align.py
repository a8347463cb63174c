import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from frisket.faces.align import TEMPLATE, align_faces, fit_similarity, warp_faces


def umeyama(points, target):
    """Umeyama (1991), equations 40 to 43, by singular values."""
    centred, aimed = points - points.mean(0), target - target.mean(0)
    left, values, right = np.linalg.svd(aimed.T @ centred)
    signs = np.array([1.0, np.sign(np.linalg.det(left) * np.linalg.det(right))])
    scale = (values * signs).sum() / (centred**2).sum()
    turn = scale * (left * signs) @ right
    return np.c_[turn, target.mean(0) - turn @ points.mean(0)]


@given(st.integers(0, 10_000), st.booleans())
def test_the_closed_form_is_umeyama_s(seed, mirrored):
    points = np.random.RandomState(seed).uniform(0, 500, (5, 2))
    if mirrored:
        points = np.array(TEMPLATE)[:, ::-1] * 3 + points * 0.1
    ours = fit_similarity(torch.from_numpy(points)[None])[0].numpy()
    assert np.abs(ours - umeyama(points, np.array(TEMPLATE))).max() <= 1e-5


@given(st.floats(-3, 3), st.floats(0.2, 5), st.floats(-80, 300), st.floats(-80, 300))
def test_a_template_that_was_moved_is_brought_back(angle, scale, right, down):
    template = torch.tensor(TEMPLATE, dtype=torch.float64)
    cos, sin = np.cos(angle) * scale, np.sin(angle) * scale
    turn = torch.tensor([[cos, -sin], [sin, cos]])
    points = template @ turn.T + torch.tensor([right, down])
    matrix = fit_similarity(points[None])[0]
    assert torch.allclose(points @ matrix[:, :2].T + matrix[:, 2], template, atol=1e-6)


def test_the_template_itself_copies_pixels():
    faces = torch.rand(2, 3, 112, 112) * 2 - 1
    template = torch.tensor([TEMPLATE] * 2)
    assert torch.allclose(align_faces(faces, template), faces, atol=1e-4)


def test_outside_the_picture_is_black():
    identity = torch.tensor([[[1.0, 0, 0], [0, 1, 0]]])
    aligned = warp_faces(torch.ones(1, 3, 40, 60), identity)
    assert torch.allclose(aligned[..., :40, :60], torch.ones(1))
    assert torch.allclose(aligned[..., 41:, :], -torch.ones(1))
    assert torch.allclose(aligned[..., :, 61:], -torch.ones(1))


def test_rows_are_independent():
    pictures, points = torch.rand(3, 3, 50, 50), torch.rand(3, 5, 2) * 50
    together = align_faces(pictures, points)
    for row in range(3):
        alone = align_faces(pictures[row : row + 1], points[row : row + 1])
        assert torch.allclose(together[row], alone[0], atol=1e-6)


def test_gradients_reach_pixels_and_points():
    pictures = torch.rand(1, 3, 60, 60, requires_grad=True)
    points = (torch.tensor([TEMPLATE]) * 0.5).requires_grad_()
    align_faces(pictures, points).square().sum().backward()
    assert (pictures.grad != 0).float().mean() > 0.9
    assert (points.grad != 0).all()


def test_points_in_one_place_are_refused():
    with pytest.raises(ValueError, match="not five places"):
        fit_similarity(torch.ones(1, 5, 2))
    with pytest.raises(ValueError, match="not finite"):
        fit_similarity(torch.full((1, 5, 2), float("nan")))

"""Where a face is put in a sample of another shape."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.inference.plugins.instantid.scene import KEYPOINTS, SOURCE
from torch import Tensor

from frisket.faces.keypoints import draw_keypoints
from frisket.inference.methods.identity.instantid.pose import draw_pose, fit_keypoints

SIDES = st.integers(16, 300)
SIZES = st.tuples(SIDES, SIDES)


@st.composite
def draw_faces(draw: st.DrawFn) -> tuple[Tensor, tuple[int, int]]:
    """Key points inside a picture, and its height and width."""
    height, width = draw(SIZES)
    share = st.floats(0.01, 0.99)
    points = [[draw(share) * width, draw(share) * height] for _ in range(5)]
    return torch.tensor(points, dtype=torch.float64), (height, width)


@given(draw_faces(), SIZES)
def test_a_face_keeps_its_shape_and_stays_in_the_picture(
    face: tuple[Tensor, tuple[int, int]], target: tuple[int, int]
) -> None:
    points, source = face
    fitted = fit_keypoints(points, source, target)
    scale = max(target[0] / source[0], target[1] / source[1])
    torch.testing.assert_close(torch.pdist(fitted), scale * torch.pdist(points))
    extent = fitted.amax(0) - fitted.amin(0)
    for axis, side in enumerate(reversed(target)):
        if extent[axis] <= side:
            assert fitted[:, axis].min() >= -1e-6
            assert fitted[:, axis].max() <= side + 1e-6


@given(draw_faces(), st.integers(1, 3))
def test_in_a_picture_of_the_same_shape_it_is_where_it_was(
    face: tuple[Tensor, tuple[int, int]], factor: int
) -> None:
    points, (height, width) = face
    fitted = fit_keypoints(points, (height, width), (factor * height, factor * width))
    torch.testing.assert_close(fitted, factor * points)


def test_a_face_in_the_middle_is_cut_out_about_the_middle_and_one_at_the_edge_moves_the_cut() -> (
    None
):
    points = torch.tensor([[90.0, 40.0], [110.0, 40.0], [100.0, 50.0], [93.0, 60.0], [107.0, 60.0]])
    middle = fit_keypoints(points, (100, 200), (100, 100))
    torch.testing.assert_close(middle, points - torch.tensor([50.0, 0.0]))
    edge = fit_keypoints(points + torch.tensor([70.0, 0.0]), (100, 200), (100, 100))
    # Half of their extent (20 pixels) is beside the key points, as far as the picture goes.
    torch.testing.assert_close(edge.amax(0)[0], torch.tensor(90.0))


def test_the_picture_is_the_authors_drawing_at_the_samples_size() -> None:
    picture = draw_pose(KEYPOINTS, SOURCE, (64, 96))
    drawn = draw_keypoints(fit_keypoints(KEYPOINTS, SOURCE, (64, 96)), 64, 96)
    assert torch.equal(picture[0], drawn.permute(2, 0, 1).float() / 255)
    assert picture.amax() == 1
    thin = draw_pose(KEYPOINTS, SOURCE, (64, 96), "scaled")
    assert 0 < (thin > 0).sum() < (picture > 0).sum()

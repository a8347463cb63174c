"""The library needs torch and numpy alone, and is imported where it is used."""

import subprocess
import sys
import textwrap

import torch
from torch import Tensor

import frisket
from frisket import shapes

ALONE = textwrap.dedent('''
    """Everything but torch, numpy and what torch itself needs is not installed."""
    import sys

    OF_TORCH = {
        "filelock", "fsspec", "functorch", "jinja2", "markupsafe", "mpmath", "networkx",
        "setuptools", "sympy", "torchgen", "typing_extensions",
    }
    THERE = {"torch", "numpy", "frisket", *OF_TORCH, *sys.stdlib_module_names}

    class Bare:
        def __init__(self, finder):
            self.finder = finder

        def find_spec(self, name, *rest):
            if name.partition(".")[0] in THERE or name.startswith("_"):
                return self.finder.find_spec(name, *rest)
            return None

    sys.meta_path[:] = [Bare(finder) for finder in sys.meta_path]
    import frisket

    assert "torch" not in sys.modules and "frisket.library" not in sys.modules
    assert {"masked_loss", "coverage"} <= set(dir(frisket))
    from frisket import LatentGrid, RegionWeights, coverage, masked_loss, read_mask

    import torch

    for shape, pixels in (((2, 4, 2, 2), (2, 1, 16, 16)), ((2, 4, 2, 2, 2), (2, 1, 5, 16, 16))):
        prediction = torch.randn(shape, requires_grad=True)
        mask = torch.zeros(pixels)
        mask[..., :8, :8] = 1
        cells = coverage(mask, 8, 1 if len(shape) == 4 else 4)
        table = RegionWeights({"subject": 1.0})
        for form in (mask, cells, mask.bool()):
            masked_loss(prediction, torch.zeros(shape), form, weights=table).backward()
        assert torch.all(prediction.grad[..., 0, 0] != 0)
        assert torch.all(prediction.grad[..., 1, :] == 0)
    assert LatentGrid(4, 8, 4).cells(5, 16, 16) == (2, 2, 2)
    try:
        read_mask("mask.png")
    except ModuleNotFoundError as error:
        assert error.name in ("av", "cv2", "PIL", "jaxtyping"), error
        assert "pip install opencv-python-headless pillow av jaxtyping" in str(error)
    else:
        raise AssertionError("read_mask decoded a file without a decoder")
    loaded = {name.partition(".")[0] for name in sys.modules}
    print(*sorted(name for name in loaded - THERE if not name.startswith("_")))
''')


def test_torch_and_numpy_are_enough():
    command = [sys.executable, "-c", ALONE]
    result = subprocess.run(command, check=False, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == ""


def test_a_name_that_is_not_there_is_said_so():
    assert not hasattr(frisket, "mask_loss")
    assert set(frisket.__all__) <= set(dir(frisket))


def test_the_suite_checks_axes_still():
    """Without jaxtyping loaded first the names of shapes are plain tensors."""
    assert shapes.Weights is not Tensor
    assert not isinstance(torch.zeros(2), shapes.Weights)

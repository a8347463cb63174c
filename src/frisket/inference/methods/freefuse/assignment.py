"""Shares cells out among concepts: about as many for each, in one piece each (FreeFuse, 3.2).

The paper's 15 rounds of balanced argmax: a concept that holds more cells than its share gets a
malus, cells near its centre and cells whose neighbours are its own get a bonus. A clip is balanced
as a whole, centre and neighbours are those within a frame; a picture is a clip of one frame, for
which this is the authors' FLUX code step for step with `doubled`. Without, one thing differs: they
count what each concept holds after taking its malus off twice, and share out with it taken off
once, so that the counts they settle at are not those of the result.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

MEASURED_ON = 4096  # cells of the maps that the authors' weights were chosen for (1024 x 1024)


@dataclass(frozen=True, slots=True)
class Balance:
    """The weights of a balanced assignment; the defaults are those of the authors' FLUX code.

    `gravity` and `votes` are added to maps whose mean is 1 / 4096: bring others to that mean
    (`scale_to_measured`), or the two weigh next to nothing.
    """

    rounds: int = 15
    rate: float = 0.01  # of the malus, as a share of the range of the maps; 5 % less each round
    gravity: float = 4e-5  # times the squared distance to the centre, sides are 2 long
    votes: float = 4e-5  # times the mean of the 8 neighbours
    momentum: float = 0.2
    margin: float = 0.0  # centres stay this share of half a side off the border
    border: float = 0.0  # malus of the outermost cells
    stretch: float = 1.1  # of the horizontal axis, in distances
    doubled: bool = False  # the malus counts twice where cells are counted, as in the authors' code

    def __post_init__(self) -> None:
        """Refuse what the rounds cannot run with."""
        if self.rounds < 0 or not 0 <= self.momentum < 1 or not 0 <= self.margin < 1:
            raise ValueError(f"rounds >= 0, momentum and margin in [0, 1): got {self}")


DEFAULT_BALANCE = Balance()


def scale_to_measured(maps: Float[Tensor, "b T n"]) -> Float[Tensor, "b T n"]:
    """Maps that sum to 1 over cells, brought to the mean that `Balance` has its weights for."""
    return maps * (maps.shape[-1] / MEASURED_ON)


def assign_cells(
    maps: Float[Tensor, "b T n"],
    cells: tuple[int, int, int],
    balance: Balance = DEFAULT_BALANCE,
    share: float | None = None,
) -> Int[Tensor, "b n"]:
    """The concept of each cell, 0 to T - 1: every cell has exactly one.

    `cells` is f h w, their product n. `share` is how many cells each concept is to hold, by default
    n / T. ValueError where the grid does not hold the cells.
    """
    batch, concepts, count = maps.shape
    frames, height, width = cells
    if frames * height * width != count:
        raise ValueError(f"a grid of {cells} has {frames * height * width} cells, the maps {count}")
    y, x, border = _lay_axes(maps, cells, balance)
    target = count / concepts if share is None else share
    reach = max(float(maps.max() - maps.min()), 1e-4)
    malus = maps.new_zeros(batch, concepts, 1)
    running, current = _stretch(maps), maps.clone()
    for step in range(balance.rounds):
        weighed = current - malus if balance.doubled else current
        running = (1 - balance.momentum) * _stretch(weighed) + balance.momentum * running
        cell_counts = functional.one_hot(weighed.argmax(1), concepts).to(maps.dtype).sum(1)
        rate = balance.rate * reach * 0.95**step
        malus = malus + torch.sign(cell_counts - target).unsqueeze(2) * rate
        malus = malus.clamp(-10 * reach, 10 * reach)
        current = (
            maps
            - malus
            + _count_votes(running, cells) * balance.votes
            - _measure_distance(running, y, x, frames, balance) * balance.gravity
            - border * balance.border
        )
    return current.argmax(1)


def _lay_axes(
    maps: Tensor, cells: tuple[int, int, int], balance: Balance
) -> tuple[Tensor, Tensor, Tensor]:
    """Height, stretched width and the outermost cells, each (1 1 h*w)."""
    _, height, width = cells
    rows = torch.linspace(-1, 1, height, device=maps.device)
    columns = torch.linspace(-1, 1, width, device=maps.device) * balance.stretch
    y, x = (axis.reshape(1, 1, -1) for axis in torch.meshgrid(rows, columns, indexing="ij"))
    edge = 1 - 3.0 / max(height, width)
    return y, x, ((y.abs() > edge) | (x.abs() > edge)).to(maps.dtype).repeat(1, 1, cells[0])


def _stretch(maps: Float[Tensor, "b T n"]) -> Float[Tensor, "b T n"]:
    """From 0 for a cell's last concept to 1 for its first."""
    low, high = maps.amin(1, keepdim=True), maps.amax(1, keepdim=True)
    return (maps - low) / (high - low + 1e-8)


def _measure_distance(
    owners: Tensor, y: Tensor, x: Tensor, frames: int, balance: Balance
) -> Float[Tensor, "b T n"]:
    """Squared distance of each cell from its concept's centre in the same frame."""
    by_frame = owners.unflatten(2, (frames, -1)).flatten(1, 2)  # b (T f) hw
    mass = by_frame.sum(2, keepdim=True) + 1e-6
    squared = torch.zeros_like(by_frame)
    for axis in (y, x):
        centre = (by_frame * axis).sum(2, keepdim=True) / mass
        if balance.margin > 0:
            centre = centre.clamp(balance.margin - 1, 1 - balance.margin)
        squared = squared + (axis - centre) ** 2
    return squared.unflatten(1, (-1, frames)).flatten(2)


def _count_votes(owners: Tensor, cells: tuple[int, int, int]) -> Float[Tensor, "b T n"]:
    """Mean of the 8 neighbours in the same frame; outside the frame there is nothing."""
    kernel = torch.full((1, 1, 3, 3), 1 / 8, device=owners.device, dtype=owners.dtype)
    kernel[..., 1, 1] = 0
    pictures = owners.reshape(-1, 1, *cells[1:])
    return functional.conv2d(pictures, kernel, padding=1).reshape(owners.shape)

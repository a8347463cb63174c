"""Each trainer's formula, restated from its equation, equals ours: value and gradient to 1e-6.

The restatements are written in double precision with loops, from the sources named in
docs/compat.md; where a formula is 0 / 0 they say 0, which is what that page promises.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, get_args

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from frisket.losses.compat import COMPATS
from frisket.recipes.config import Losses


def shrunk(mask: Tensor, s: int, taps: Callable[[int, int], Mapping[int, float]]) -> Tensor:
    """A mask under separable taps: (cell, size) -> {pixel: share}."""
    high, wide = mask.shape
    cells = torch.zeros(high // s, wide // s, dtype=torch.float64)
    for i in range(high // s):
        for j in range(wide // s):
            for y, share in taps(i, high).items():
                for x, other in taps(j, wide).items():
                    cells[i, j] += share * other * mask[y, x].double()
    return cells


def area(s: int) -> Callable[[int, int], Mapping[int, float]]:
    return lambda cell, _: {cell * s + p: 1 / s for p in range(s)}


def nearest(s: int) -> Callable[[int, int], Mapping[int, float]]:
    return lambda cell, _: {cell * s: 1.0}


def nearest_exact(s: int) -> Callable[[int, int], Mapping[int, float]]:
    return lambda cell, _: {math.floor((cell + 0.5) * s): 1.0}


def bilinear_antialiased(s: int) -> Callable[[int, int], Mapping[int, float]]:
    def taps(cell: int, size: int) -> Mapping[int, float]:
        centre = (cell + 0.5) * s
        raw = {p: max(0.0, 1 - abs(p + 0.5 - centre) / s) for p in range(size)}
        return {p: share / sum(raw.values()) for p, share in raw.items() if share}

    return taps


def bicubic(s: int) -> Callable[[int, int], Mapping[int, float]]:
    def kernel(x: float, a: float = -0.75) -> float:
        x = abs(x)
        if x <= 1:
            return (a + 2) * x**3 - (a + 3) * x**2 + 1
        return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a

    def taps(cell: int, size: int) -> Mapping[int, float]:
        at = (cell + 0.5) * s - 0.5
        left = math.floor(at)
        shares: dict[int, float] = {}
        for p in range(left - 1, left + 3):
            inside = min(max(p, 0), size - 1)
            shares[inside] = shares.get(inside, 0.0) + kernel(at - p)
        return shares

    return taps


def laid(scene: Any, rule: Callable[[int], Callable[[int, int], Mapping[int, float]]]) -> Tensor:
    """Still masks on the latents' own number of dimensions: b 1 h w, or b 1 1 h w on video."""
    masks = [torch.ones(scene.size) if mask is None else mask for mask in scene.masks]
    cells = torch.stack([shrunk(mask, scene.spatial, rule(scene.spatial)) for mask in masks])
    return cells[:, None] if scene.prediction.shape[2] == 1 else cells[:, None, None]


@dataclass
class Given:
    """A scene in double precision, images without their frame axis."""

    prediction: Tensor
    target: Tensor
    prior: Tensor
    level: Tensor
    weight: Tensor

    def square(self) -> Tensor:
        return (self.prediction - self.target) ** 2

    def from_prior(self) -> Tensor:
        return (self.prediction - self.prior) ** 2

    def shape(self, values: Tensor) -> Tensor:
        return values.view(-1, *[1] * (self.prediction.ndim - 1))


def given_of(scene: Any) -> Given:
    def plain(latents: Tensor) -> Tensor:
        return (latents.squeeze(2) if latents.shape[2] == 1 else latents).double()

    prediction = plain(scene.prediction).requires_grad_()
    return Given(
        prediction,
        plain(scene.target),
        plain(scene.prior),
        scene.level.double(),
        scene.weight.double(),
    )


def per_sample(values: Tensor) -> Tensor:
    return values.flatten(1).mean(1)


def exact(values: Tensor) -> Tensor:
    """Without the loops' own rounding around 0."""
    return torch.where(values.abs() > 1e-12, values, 0.0)


def over(numerator: Tensor, denominator: Tensor) -> Tensor:
    """A quotient; 0 / 0 is 0."""
    safe = torch.where(denominator > 0, denominator, 1.0)
    return torch.where(denominator > 0, numerator / safe, torch.zeros_like(numerator))


def same(
    bench: Any, scene: Any, formula: Callable[[Given], Tensor], trainer: str, **sections: Any
) -> None:
    """Value and gradient agree to 1e-6 (of the largest gradient)."""
    value, gradient = bench.ours(bench.config_of(trainer, **sections), scene)
    given = given_of(scene)
    loss = formula(given)
    (theirs,) = torch.autograd.grad(loss, given.prediction)
    loss, theirs = loss.detach(), theirs.view_as(gradient)
    assert abs(float(value) - float(loss)) <= 1e-6 * max(1.0, abs(float(loss)))
    scale = max(float(theirs.abs().max()), 1e-12)
    assert float((gradient.double() - theirs).abs().max()) <= 1e-6 * scale


KINDS = st.lists(
    st.sampled_from(["soft", "hard", "corner", "empty", "full", "none"]), min_size=1, max_size=3
)


SCENES = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 10_000),
        "kinds": KINDS,
        "frames": st.sampled_from([1, 3]),
        "height": st.integers(2, 3),  # torch's antialiased resize to 1 column is wrong
        "width": st.integers(2, 4),
        "s": st.sampled_from([2, 3, 8]),
    }
)
quick = settings(max_examples=25)


@quick
@given(SCENES)
def test_kohya(bench: Any, drawn: dict[str, Any]) -> None:
    """l t_weight m, mean of the sample, data set weight, mean of the batch."""
    scene = bench.scene_of(**drawn)
    m = laid(scene, area)

    def formula(x: Given) -> Tensor:
        return (per_sample(x.square() * x.shape(x.level) * m) * x.weight).mean()

    same(bench, scene, formula, "kohya")


@quick
@given(
    SCENES,
    st.sampled_from([0.0, 0.1, 0.5]),
    st.sampled_from(["none", "sample"]),
    st.sampled_from([0.0, 0.7]),
    st.sampled_from(["mse", "l1"]),
)
def test_onetrainer(
    bench: Any, drawn: dict[str, Any], floor: float, normalise: str, prior: float, kind: str
) -> None:
    """w = clamp(m, u, 1): l w (/ mean w) + p (1 - w) w_prior (/ mean (1 - w)), weights outside."""
    scene = bench.scene_of(**drawn)
    w = laid(scene, bilinear_antialiased).clamp(floor, 1)
    q = exact(1 - w)

    def formula(x: Given) -> Tensor:
        error, away = x.square(), x.from_prior()
        if kind == "l1":
            error, away = error.sqrt(), away.sqrt()
        loss, kept = per_sample(error * w), per_sample(away * q) * prior
        if normalise == "sample":
            loss, kept = over(loss, per_sample(w)), over(kept, per_sample(q))
        return ((loss + kept) * x.weight * x.level).mean()

    losses = {"normalise": normalise, "prior": prior, "denoise": {"kind": kind}}
    same(bench, scene, formula, "onetrainer", losses=losses, curve={"floor": floor})


@quick
@given(SCENES, st.booleans())
def test_simpletuner(bench: Any, drawn: dict[str, Any], segmentation: bool) -> None:
    """m from [-1, 1] by area, halved, plus a half; segmentation: whatever is above 0 is 1."""
    scene = bench.scene_of(**drawn)
    signed = replace(scene, masks=[m if m is None else m * 2 - 1 for m in scene.masks])
    m = exact(laid(signed, area) / 2 + 0.5)
    w = (m > 0).double() if segmentation else m

    def formula(x: Given) -> Tensor:
        loss = x.square() * x.shape(x.level) * x.shape(x.weight) * w
        return per_sample(loss).mean()

    curve = {"threshold": 0.0} if segmentation else {}
    same(bench, scene, formula, "simpletuner", curve=curve)


@quick
@given(SCENES, st.sampled_from([0.0, 0.1]), st.sampled_from([0.0, 0.5]))
def test_ai_toolkit(bench: Any, drawn: dict[str, Any], floor: float, prior: float) -> None:
    """l m / mean m + p q / mean q, q = 1 - bicubic m; level and data set weigh only the first."""
    scene = bench.scene_of(**drawn)
    lifted = [m if m is None else floor + (1 - floor) * m for m in scene.masks]
    masked = replace(scene, masks=lifted)
    m = laid(masked, nearest)
    q = exact(1 - laid(masked, bicubic))

    def formula(x: Given) -> Tensor:
        loss = x.square() * x.shape(x.level) * over(m, m.mean().expand_as(m))
        kept = x.from_prior() * over(q, q.mean().expand_as(q)) * prior
        return (per_sample(loss) * x.weight + per_sample(kept)).mean()

    same(bench, scene, formula, "ai-toolkit", losses={"prior": prior}, curve={"floor": floor})


@quick
@given(SCENES, st.sampled_from(["mse", "huber", "smooth_l1"]))
def test_diffusion_pipe(bench: Any, drawn: dict[str, Any], kind: str) -> None:
    """Mean of everything of l m, m by nearest-exact."""
    scene = bench.scene_of(**drawn)
    m = laid(scene, nearest_exact)

    def formula(x: Given) -> Tensor:
        errors = {
            "mse": x.square,
            "huber": lambda: functional.huber_loss(
                x.prediction, x.target, reduction="none", delta=0.5
            ),
            "smooth_l1": lambda: functional.smooth_l1_loss(
                x.prediction, x.target, reduction="none", beta=0.5
            ),
        }
        return (errors[kind]() * m * x.shape(x.level) * x.shape(x.weight)).mean()

    losses = {"denoise": {"kind": kind, "delta": 0.5}}
    same(bench, scene, formula, "diffusion-pipe", losses=losses)


@settings(max_examples=60)
@given(
    SCENES,
    st.sampled_from([1.0, 0.5, 2.0]),
    st.sampled_from([0.0, 0.05]),
    st.sampled_from(["batch", "sample"]),
    st.sampled_from([None, 0.5]),
    st.sampled_from([0.0, 0.8]),
    st.sampled_from([1.0, 0.3]),
    st.sampled_from([0.0, 0.5]),
)
def test_blissful(
    bench: Any,
    drawn: dict[str, Any],
    gamma: float,
    floor: float,
    normalise: str,
    beta: float | None,
    prior: float,
    threshold: float,
    t_min: float,
) -> None:
    """w = m^gamma (1 - floor) + floor; p = 1 - w, or 1[m < thr] with w (1 - p); weighted means."""
    scene = bench.scene_of(**drawn)
    m = laid(scene, area).clamp(0, 1)
    w = m**gamma * (1 - floor) + floor
    gate = (scene.t >= t_min).double().view(-1, *[1] * (m.ndim - 1))
    cut = threshold < 1
    p = gate * ((m < threshold).double() if cut else exact(1 - w))
    if cut and prior:
        w = w * (1 - p)

    def mean(error: Tensor, under: Tensor) -> Tensor:
        under = under.expand_as(error)
        if normalise == "sample":
            return over((error * under).flatten(1).sum(1), under.flatten(1).sum(1))
        return over((error * under).sum(), under.sum())

    def formula(x: Given) -> Tensor:
        weights = x.shape(x.level) * x.shape(x.weight)
        covered = per_sample(m) if normalise == "sample" else m.mean()
        loss = mean(x.square() * weights, w) * covered ** (beta or 0.0)
        return loss.mean() + mean(x.from_prior() * weights, p).mean() * prior

    losses: dict[str, Any] = {"normalise": normalise}
    losses |= {} if beta is None else {"beta": beta}
    if prior:
        losses["prior"] = {"strength": prior, "t_min": t_min, "threshold": threshold}
    same(bench, scene, formula, "blissful", losses=losses, curve={"gamma": gamma, "floor": floor})


def test_every_trainer_of_the_table_can_be_written_in_a_config() -> None:
    assert set(get_args(Losses.model_fields["compat"].annotation)) == {"", *COMPATS}

"""Two denoisers as one: who is called, and what lies where."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from frisket.families import experts
from frisket.families.experts import Experts, experts_of, first

RANGES = {"high": (0.875, 1.0), "low": (0.0, 0.875)}


class Scaled(nn.Module):
    """A denoiser that multiplies, so that one sees which one spoke; told apart by device too."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.tensor([factor]), requires_grad=False)
        self.frozen = nn.Linear(2, 2).requires_grad_(False)
        self.trained = nn.Linear(2, 2)
        self.register_buffer("wave", torch.ones(2))

    def forward(self, states: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        return states * self.table


def pair() -> Experts:
    return Experts({"high": Scaled(10.0), "low": Scaled(-1.0)}, RANGES)


class Packed(nn.Parameter):
    """As a quantised weight: moved by its own `to`. This one only says that it moved."""

    place = torch.device("cpu")

    @property
    def device(self) -> torch.device:
        return self.place

    def to(self, device: torch.device) -> "Packed":
        moved = Packed(self.data, requires_grad=False)
        moved.place = device
        return moved


def packed() -> Experts:
    """Experts whose frozen weights know where they are, on a machine with one device."""
    both = pair()
    for expert in both.experts.values():
        for name in ("weight", "bias"):
            expert.frozen._parameters[name] = Packed(torch.ones(2), requires_grad=False)
    both.device = torch.device("meta")
    return both


def places(both: Experts) -> dict[str, set[str]]:
    return {
        name: {value.device.type for value in expert.frozen.parameters()}
        for name, expert in both.experts.items()
    }


@pytest.mark.parametrize(
    ("levels", "factor"),
    [([1.0, 0.875], 10.0), ([0.8749, 1e-3], -1.0), ([0.875], 10.0), ([0.0], -1.0)],
)
def test_a_call_goes_to_the_expert_of_its_noise_levels(levels, factor):
    spoken = pair()(torch.ones(len(levels), 1), timestep=torch.tensor(levels) * 1000)
    assert torch.equal(spoken, torch.full((len(levels), 1), factor))


def test_every_noise_level_has_exactly_one_expert_however_float32_rounds_it():
    both = pair()
    for step in range(1, 1001):
        t = torch.tensor([step / 1000]) * 1000 / 1000
        assert both.find_name(t) == ("high" if step >= 875 else "low")


def test_tokens_that_are_given_clean_do_not_choose_the_expert():
    timestep = torch.tensor([[0.0, 0.0, 900.0, 900.0]])
    assert torch.equal(pair()(torch.ones(1), timestep=timestep), torch.tensor([10.0]))


def test_a_batch_across_the_boundary_is_refused_with_its_levels():
    with pytest.raises(
        ValueError, match=r"t from 0\.5 to 0\.9 .*high 0\.875 to 1, low 0 to 0\.875"
    ):
        pair()(torch.ones(2), timestep=torch.tensor([900.0, 500.0]))


def test_a_level_of_an_expert_that_is_not_loaded_is_refused():
    alone = Experts({"low": Scaled(-1.0)}, RANGES)
    assert alone.find_name(torch.tensor([0.2])) == "low"
    for level in (0.9, float("nan")):
        with pytest.raises(ValueError, match=r"not within the range of one loaded expert: low"):
            alone.find_name(torch.tensor([level]))


def test_an_expert_without_a_range_is_refused():
    with pytest.raises(ValueError, match=r"no range of t for \['third'\]"):
        Experts({"third": Scaled(1.0)}, RANGES)
    with pytest.raises(ValueError, match="no range"):
        Experts({}, RANGES)


def test_only_frozen_weights_move_and_the_others_leave_first(monkeypatch):
    moves = []
    monkeypatch.setattr(experts, "_move", lambda expert, to: moves.append((expert, to.type)))
    both = pair()
    both(torch.ones(1), timestep=torch.tensor([900.0]))
    assert moves == []  # no device chosen: everything stays where it is
    both.device = torch.device("meta")
    both(torch.ones(1), timestep=torch.tensor([900.0]))
    high, low = both.experts["high"], both.experts["low"]
    assert moves == [(low, "cpu"), (high, "meta")]
    moves.clear()
    low(torch.ones(1), torch.tensor([100.0]))  # as the public pipeline calls it
    assert moves == [(high, "cpu"), (low, "meta")]


def test_one_experts_frozen_weights_are_on_the_device_at_a_time():
    both = packed()
    for name, other in (("high", "low"), ("low", "high"), ("high", "low")):
        both.use(name)
        assert places(both) == {name: {"meta"}, other: {"cpu"}}
    trained = [value for value in both.parameters() if value.requires_grad]
    tables = [expert.table for expert in both.experts.values()]
    assert {value.device.type for value in (*trained, *tables)} == {"cpu"}  # never moved by `use`


def test_to_chooses_a_device_and_does_not_put_both_experts_there(monkeypatch):
    chosen = []
    monkeypatch.setattr(Experts, "on", lambda self, device: chosen.append(device) or self)
    both = pair()
    assert both.to("meta", torch.bfloat16) is both
    assert chosen == [torch.device("meta")]
    assert {value.dtype for value in both.parameters()} == {torch.bfloat16}
    assert {value.device.type for value in both.parameters()} == {"cpu"}
    both.to(torch.float32)
    assert len(chosen) == 1


def test_a_single_expert_goes_to_the_device_whole():
    alone = Experts({"low": Scaled(-1.0)}, RANGES).on("meta")
    named = [*alone.named_parameters(), *alone.named_buffers()]
    assert {value.device.type for _, value in named} == {"meta"}
    assert alone.device is None  # and nothing moves it any more


def test_an_optimizers_parameters_are_the_same_tensors_whoever_is_used():
    both = pair().on("cpu")
    trained = [value for value in both.parameters() if value.requires_grad]
    storage = [value.data_ptr() for value in trained]
    optimizer = torch.optim.AdamW(trained, lr=0.1)
    for name in ("high", "low", "high"):
        expert = both.use(name)
        expert.trained(torch.ones(1, 2)).sum().backward()
        optimizer.step()
    now = [value for value in both.parameters() if value.requires_grad]
    assert all(a is b for a, b in zip(trained, now, strict=True))
    assert storage == [value.data_ptr() for value in now]


def test_a_copy_moves_itself_and_not_the_original(monkeypatch):
    both = pair()
    copy = deepcopy(both)
    moved = []
    monkeypatch.setattr(experts, "_move", lambda expert, _: moved.append(expert))
    copy.device = torch.device("cpu")
    copy.experts["high"](torch.ones(1), torch.tensor([900.0]))
    assert [id(expert) for expert in moved] == [id(copy.experts["low"]), id(copy.experts["high"])]


def test_a_plain_denoiser_is_its_only_expert():
    plain, both = Scaled(1.0), pair()
    wrapped = nn.Module()
    wrapped.module = both
    assert experts_of(plain) == {"": plain}
    assert first(plain) is plain
    assert list(experts_of(wrapped)) == ["high", "low"]
    assert first(wrapped) is both.experts["high"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a card: FRISKET_TEST_GPU=0")
def test_one_expert_is_on_the_card_at_a_time():
    big = {name: nn.Sequential(nn.Linear(1, 1), nn.Linear(2048, 2048)) for name in RANGES}
    both = Experts(big, RANGES).requires_grad_(False).on("cuda")
    before = torch.cuda.memory_allocated()
    kept = [{k: v.cpu().clone() for k, v in expert.state_dict().items()} for expert in big.values()]
    for name in ("high", "low", "high"):
        both.use(name)
        held = torch.cuda.memory_allocated() - before
        assert held == pytest.approx(4 * (2048 * 2048 + 2048), rel=0.01)
    for expert, state in zip(big.values(), kept, strict=True):
        assert all(torch.equal(v.cpu(), state[k]) for k, v in expert.state_dict().items())

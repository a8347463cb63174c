"""The trainer: exact resume, weights where they belong, and hooks that change nothing."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from frisket.data.sample import Batch
from frisket.families.models.pocket.family import FAMILY
from frisket.losses.terms.denoise import Denoise
from frisket.training.plan import Hooks
from frisket.training.trainer import Diverged


def test_two_runs_of_one_seed_are_bit_identical_and_learn(
    bench: SimpleNamespace, tmp_path: Path
) -> None:
    runs = []
    for name in ("a", "b"):
        trainer = bench.trainer_of(tmp_path / name, steps=8)
        before = bench.weights_of(trainer)
        trainer.run()
        assert not bench.same(before, bench.weights_of(trainer))
        runs.append(trainer)
    assert bench.same(bench.weights_of(runs[0]), bench.weights_of(runs[1]))
    lines = bench.lines_of(tmp_path / "a")
    assert [line["step"] for line in lines] == list(range(1, 9))
    assert {"loss", "denoise", "prior", "inside", "outside", "grad_norm", "lr"} <= lines[0].keys()


def test_previews_validation_and_saving_change_nothing(
    bench: SimpleNamespace, tmp_path: Path
) -> None:
    quiet = bench.trainer_of(tmp_path / "quiet")
    quiet.run()
    noisy = bench.trainer_of(tmp_path / "noisy")

    def look(step: int) -> None:
        with noisy.eval_mode() as denoiser:
            torch.randn(7)
            assert not denoiser.training
            FAMILY.predict(
                denoiser,
                torch.randn(1, 12, 1, 8, 8),
                torch.rand(1),
                {"tokens": torch.randn(1, 12, 64)},
            )

    noisy.hooks = Hooks(look, look, look, save_every=1, validate_every=2, preview_every=3)
    noisy.run()
    assert bench.same(bench.weights_of(quiet), bench.weights_of(noisy))


def test_a_sample_without_weight_is_counted_and_moves_nothing(
    bench: SimpleNamespace, tmp_path: Path
) -> None:
    def nothing(start: int) -> Iterator[Batch]:
        while True:
            yield bench.batch_of(0, empty=True)

    trainer = bench.trainer_of(tmp_path, terms={"denoise": (Denoise(), 1.0)}, ema=0.0, steps=2)
    for group in trainer.optimizer.param_groups:
        group["weight_decay"] = 0.0
    before = bench.weights_of(trainer)
    trainer.batches = nothing
    trainer.run()
    assert trainer.zero_weight_samples == 4
    assert bench.same(before, bench.weights_of(trainer))


def test_unmasked_probability_is_drawn_for_each_sample(
    bench: SimpleNamespace, tmp_path: Path
) -> None:
    # OneTrainer's switch of this name does nothing on ordinary models.
    trainer = bench.trainer_of(tmp_path, unmasked_probability=0.25)
    trainer.generator.manual_seed(0)
    micros = [micro for _ in range(40) for micro in trainer.lay([bench.batch_of(0)])]
    whole = [bool((w == 1).all()) for micro in micros for w in micro.weighed.weights]
    assert 10 < sum(whole) < 30
    pairs = list(zip(whole[::2], whole[1::2], strict=True))
    assert any(a != b for a, b in pairs)


def test_feather_widens_with_t_and_not_at_zero(bench: SimpleNamespace, tmp_path: Path) -> None:
    trainer, batch = bench.trainer_of(tmp_path, feather_t=4.0), bench.batch_of(0)
    trainer.objective = SimpleNamespace(sample_t=lambda *_, **__: torch.tensor([0.0, 1.0]))
    (micro,) = trainer.lay([batch])
    hard = trainer.weights(batch.coverage, batch.masked)
    soft = micro.weighed.weights
    assert torch.equal(soft[0], hard[0])
    assert int((soft[1] > 0).sum()) > int((hard[1] > 0).sum())
    assert micro.weighed.divisor[1] == pytest.approx(float(soft[1].sum()) * 12)


def test_a_loss_scale_changes_nothing_and_an_overflow_moves_nothing(
    bench: SimpleNamespace, tmp_path: Path
) -> None:
    plain = bench.trainer_of(tmp_path / "plain", ema=0.0)
    plain.run()
    scaled = bench.trainer_of(tmp_path / "scaled", ema=0.0)
    scaled.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    scaled.run()
    for name, value in bench.weights_of(plain).items():
        torch.testing.assert_close(bench.weights_of(scaled)[name], value, rtol=1e-4, atol=1e-6)
    over = bench.trainer_of(tmp_path / "over", steps=3)
    before = bench.weights_of(over)
    rate = over.schedule.get_last_lr()
    over.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=3e38)
    loud = replace(bench.batch_of(0), latents=bench.batch_of(0).latents * 30)
    over.batches = lambda row: iter([loud] if row == 0 else [bench.batch_of(0)] * 2)
    over.plan = replace(over.plan, steps=1)
    over.run()
    assert bench.same(before, bench.weights_of(over))
    assert over.accelerator.scaler.get_scale() < 3e38
    assert (over.done, over.skipped, over.moved) == (1, 1, 0)
    assert over.schedule.get_last_lr() == rate
    assert over.average is not None
    assert over.average.steps == 0
    assert bench.lines_of(tmp_path / "over")[0]["skipped"] == 1
    over.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    over.plan = replace(over.plan, steps=3)
    over.run()
    assert (over.done, over.moved, over.average.steps) == (3, 2, 2)
    used = [line["lr"] for line in bench.lines_of(tmp_path / "over")[1:]]
    assert used == pytest.approx([rate[0], 2 * rate[0]])  # the warm-up begins where it stood


def test_the_rate_logged_is_the_one_used(bench: SimpleNamespace, tmp_path: Path) -> None:
    trainer = bench.trainer_of(tmp_path)
    used: list[float] = []
    trainer.optimizer.register_step_pre_hook(
        lambda optimizer, *_: used.append(optimizer.param_groups[0]["lr"])
    )
    trainer.run()
    assert [line["lr"] for line in bench.lines_of(tmp_path)] == used
    assert len(set(used)) > 3


def test_noise_is_another_one_at_every_step(bench: SimpleNamespace, tmp_path: Path) -> None:
    trainer, drawn = bench.trainer_of(tmp_path), []
    for done in (0, 1, 0):
        trainer.done = done
        trainer._seed()
        (micro,) = trainer.lay([bench.batch_of(0)])
        drawn.append((micro.noise, micro.t))
    assert not torch.equal(drawn[0][0], drawn[1][0])
    assert not torch.equal(drawn[0][1], drawn[1][1])
    assert torch.equal(drawn[0][0], drawn[2][0])


def test_a_run_ends_with_a_validation_whatever_the_rhythm(
    bench: SimpleNamespace, tmp_path: Path
) -> None:
    trainer, looked = bench.trainer_of(tmp_path), []
    trainer.hooks = Hooks(validate=looked.append, validate_every=4)
    trainer.run()
    assert looked == [4, 6]


def test_the_environment_divides_no_gradient(
    bench: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.trainer_of(tmp_path / "plain").run()
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    bench.trainer_of(tmp_path / "launched").run()
    norms = [
        [line["grad_norm"] for line in bench.lines_of(tmp_path / name)]
        for name in ("plain", "launched")
    ]
    assert norms[0] == norms[1]


def test_a_loss_that_is_not_finite_stops_with_the_fix(
    bench: SimpleNamespace, tmp_path: Path
) -> None:
    trainer = bench.trainer_of(tmp_path)

    def broken(start: int) -> Iterator[Batch]:
        batch = bench.batch_of(0)
        batch.latents[0, 0, 0, 3, 4] = float("inf")
        while True:
            yield batch

    trainer.batches = broken
    with pytest.raises(Diverged, match=r"clips a, b.*optimizer\.lr"):
        trainer.run()


def test_the_record_of_a_step_names_its_clips_their_noise_level_and_error(
    bench: SimpleNamespace, tmp_path: Path
) -> None:
    trainer = bench.trainer_of(tmp_path, accumulate=2, steps=2)
    trainer.run()
    for line in bench.lines_of(tmp_path):
        clips = line["clips"]
        assert [clip["name"] for clip in clips] == ["a", "b", "a", "b"]
        assert sum(clip["t"] for clip in clips) / 4 == pytest.approx(line["t"], abs=1e-4)
        # The mask is as large in every clip, so that the mean over clips is the mean over cells.
        errors = [clip["error"] for clip in clips]
        assert sum(errors) / 4 == pytest.approx(line["inside"], rel=1e-4)
        assert line["resident_mib"] > 50


def test_a_clip_without_weight_has_no_error_in_the_record(
    bench: SimpleNamespace, tmp_path: Path
) -> None:
    trainer = bench.trainer_of(tmp_path, steps=1)
    trainer.batches = lambda _: iter([bench.batch_of(0, empty=True)] * 2)
    trainer.run()
    (line,) = bench.lines_of(tmp_path)
    assert [clip["error"] for clip in line["clips"]] == [None, None]
    assert "nonfinite" not in line

"""A run that is asked to stop finishes its step, saves once, and says so."""

import os
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest

from frisket.training.interrupt import SIGNALS, Stopped
from frisket.training.plan import Hooks


@pytest.mark.usefixtures("heard")
@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("save_every", [0, 2])
def test_a_signal_finishes_the_step_saves_once_and_says_so(
    bench: SimpleNamespace, tmp_path: Path, number: signal.Signals, save_every: int
) -> None:
    trainer, saved = bench.trainer_of(tmp_path), []
    handler = signal.getsignal(number)
    trainer.hooks = Hooks(save=saved.append, save_every=save_every)
    trainer.hooks.progress = lambda step, _: os.kill(os.getpid(), number) if step == 2 else None
    with pytest.raises(Stopped, match="saved after step 2") as stopped:
        trainer.run()
    assert saved == [2]
    assert stopped.value.code == 128 + number
    assert signal.getsignal(number) is handler


def test_a_signal_that_is_ignored_stays_ignored(bench: SimpleNamespace, tmp_path: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # what nohup does
    try:
        trainer = bench.trainer_of(tmp_path)
        trainer.hooks.progress = lambda *_: os.kill(os.getpid(), signal.SIGHUP)
        trainer.run()
    finally:
        signal.signal(signal.SIGHUP, before)
    assert trainer.done == 6

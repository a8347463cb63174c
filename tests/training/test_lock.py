"""One run, one folder."""

import subprocess
import sys
from pathlib import Path

import pytest

from frisket.training.lock import RunLocked, lock_folder

HOLD = """
import sys, time
from pathlib import Path
from frisket.training.lock import lock_folder
with lock_folder(Path(sys.argv[1])):
    print("mine", flush=True)
    time.sleep(60)
"""


def test_a_second_run_is_refused_and_a_dead_ones_folder_taken_over(tmp_path: Path) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "mine\n"
        said = rf"is being written by process {owner.pid} on .*run\.output="
        with pytest.raises(RunLocked, match=said), lock_folder(tmp_path):
            pass
    finally:
        owner.kill()  # no chance to clean up
        owner.communicate()
    with lock_folder(tmp_path):
        pass


def test_the_same_folder_can_be_used_again_and_again(tmp_path: Path) -> None:
    for _ in range(2):
        with lock_folder(tmp_path):
            pass

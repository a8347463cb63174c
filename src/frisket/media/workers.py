"""What a worker process begins with."""

import os
import signal
from multiprocessing import parent_process
from threading import Thread

from frisket.media.quiet import quiet


def begin() -> None:
    """Ctrl-C is its parent's to hear, threads are for its siblings, and it ends with its parent."""
    quiet()
    import cv2  # noqa: PLC0415 - after `quiet`, and where the work is
    import torch  # noqa: PLC0415

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    Thread(target=_stop_with_parent, daemon=True).start()


def _stop_with_parent() -> None:
    """A killed parent closes no queue, and its workers would wait for it forever."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)

"""Keeps other packages' chatter off the terminal; imports nothing that chats."""

import logging
import os
import warnings

from frisket.media.foreign import show_warnings

NOISY = (
    *("bitsandbytes", "torchao", "diffusers", "transformers", "httpx", "PIL", "huggingface_hub"),
)


def quiet() -> None:
    """Of other packages, show errors only; in a worker process, call it before their import.

    What Pillow warns of is said of a user's file, so that is shown, with the file's name.
    """
    for name in ("TRANSFORMERS_VERBOSITY", "DIFFUSERS_VERBOSITY", "HF_HUB_VERBOSITY"):
        os.environ.setdefault(name, "error")  # they set their own levels when they are imported
    for name in NOISY:
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    show_warnings()

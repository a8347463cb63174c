"""Keeps other packages' chatter off the terminal; imports nothing that chats."""

import logging
import os
import warnings

NOISY = ("bitsandbytes", "torchao", "diffusers", "transformers", "httpx", "PIL")


def quiet() -> None:
    """Of other packages, show errors only; in a worker process, call it before their import."""
    for name in ("TRANSFORMERS_VERBOSITY", "DIFFUSERS_VERBOSITY"):
        os.environ.setdefault(name, "error")  # they set their own levels when they are imported
    for name in NOISY:
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.simplefilter("ignore")

"""`frisket serve`: the numerics behind the studio, and behind any page of your own."""

import os
import sys


def serve() -> None:
    """Answer requests on standard input, JSON lines and bytes; for programs, not for people.

    One request is {"id": 1, "op": "frames.read", "args": {...}, "bytes": 0}; the operations are
    the modules of frisket.recipes.serve.ops.
    """
    from frisket.recipes.serve.answer import serve as answer

    # What libraries print must not stand between answers.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    answer(sys.stdin.buffer, answers)

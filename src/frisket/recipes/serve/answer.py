"""Reads questions from one stream and writes answers to another, one at a time."""

import json
import logging
import pkgutil
import queue
import threading
import traceback
from importlib import import_module
from typing import Any, BinaryIO

from frisket.recipes.serve import ops
from frisket.recipes.serve.session import Answer, Cancelled, Operation, Session

log = logging.getLogger(__name__)

LARGEST = 1 << 30  # bytes of a request's body


def serve(questions: BinaryIO, answers: BinaryIO) -> None:
    """Answer until `questions` ends: lines and bytes as `frisket.studio.serve_pool` says them."""
    waiting: queue.Queue[tuple[dict[str, Any], bytes] | None] = queue.Queue()
    stops: dict[int, threading.Event] = {}
    reader = threading.Thread(target=_read, args=(questions, waiting, stops), daemon=True)
    reader.start()
    session = Session(lambda *_: None)
    while (item := waiting.get()) is not None:
        request, body = item
        number = int(request["id"])
        session.body, session.stop = body, stops[number]

        def report(stage: str, count: int, total: int, number: int = number) -> None:
            _write(answers, {"id": number, "progress": [stage, count, total]}, b"")

        session.report = report
        _answer(session, request, answers)
        stops.pop(number, None)


def _read(questions: BinaryIO, waiting: Any, stops: dict[int, threading.Event]) -> None:
    try:
        while line := questions.readline():
            request = json.loads(line)
            size = int(request.get("bytes", 0))
            if not 0 <= size <= LARGEST:
                raise ValueError(f"a request of {size} bytes")
            body = questions.read(size)
            if "cancel" in request:
                stop = stops.get(int(request["cancel"]))
                if stop is not None:
                    stop.set()
                continue
            stops[int(request["id"])] = threading.Event()
            waiting.put((request, body))
    finally:
        waiting.put(None)


def _answer(session: Session, request: dict[str, Any], answers: BinaryIO) -> None:
    number, name = int(request["id"]), str(request.get("op"))
    try:
        session.check()
        reply = find_operation(name)(session, request.get("args") or {})
    except Cancelled:
        _write(answers, {"id": number, "ok": False, "error": "cancelled"}, b"")
    except Exception as error:
        if not isinstance(error, (ValueError, OSError, LookupError, RuntimeError)):
            log.warning("%s: %s", name, "".join(traceback.format_exception(error)))
        text = str(error) or type(error).__name__
        _write(answers, {"id": number, "ok": False, "error": text}, b"")
    else:
        _write(answers, {"id": number, "ok": True, "value": reply.value}, reply.body)


def find_operation(name: str) -> Operation:
    """The operation `room.verb` of the module ops/room.py; LookupError where there is none."""
    room = name.partition(".")[0]
    if room in {module.name for module in pkgutil.iter_modules(ops.__path__)}:
        operations: dict[str, Operation] = import_module(f"{ops.__name__}.{room}").OPS
        if name in operations:
            return operations[name]
    raise LookupError(f"`frisket serve` has no operation {name!r}")


def _write(answers: BinaryIO, message: dict[str, Any], body: bytes) -> None:
    line = json.dumps({**message, "bytes": len(body)}, separators=(",", ":")) + "\n"
    answers.write(line.encode() + body)
    answers.flush()


__all__ = ["Answer", "find_operation", "serve"]

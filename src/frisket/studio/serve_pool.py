"""Children that do what needs torch, decoders or models: `frisket serve`, spoken to in lines.

A request is one JSON line {id, op, args, bytes} and that many bytes; an answer is one JSON line
{id, ok, value | error, bytes} and that many bytes, after any number of {id, progress} lines.
"""

import asyncio
import json
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Literal

Lane = Literal["quick", "model", "plan"]
ServeProgress = Callable[[str, int, int], None]
LINE = 1 << 22  # bytes of the longest line
GRACE = 3.0  # seconds a child has to end by itself


class ServeError(ValueError):
    """What a child says is wrong; the text is for the reader."""


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to a call: a JSON value, and bytes where the answer is an array or a picture."""

    value: dict[str, Any]
    body: bytes = b""


@dataclass(slots=True)
class _Waiting:
    answer: "asyncio.Future[Reply]"
    progress: ServeProgress | None
    process: Process | None = None  # the one it was sent to


@dataclass(slots=True)
class _Child:
    """One process; started when it is first needed, and again after it died."""

    process: Process | None = None
    reader: "asyncio.Task[None] | None" = None
    waiting: dict[int, _Waiting] = field(default_factory=dict)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    ended: bool = False

    async def start(self) -> Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "frisket.cli", "serve",
            stdin=PIPE, stdout=PIPE, limit=LINE, start_new_session=True,
        )  # fmt: skip
        self.process = process
        self.reader = asyncio.create_task(self._read(process))
        return process

    async def send(self, request: dict[str, Any], body: bytes) -> None:
        async with self.lock:
            if self.ended:
                raise ServeError(STOPPING)
            process = self.process
            if process is None or process.returncode is not None:
                process = await self.start()
            assert process.stdin is not None
            if waiting := self.waiting.get(int(request.get("id", 0))):
                waiting.process = process
            line = json.dumps({**request, "bytes": len(body)}) + "\n"
            try:
                process.stdin.write(line.encode() + body)
                await process.stdin.drain()
            except (BrokenPipeError, ConnectionResetError) as error:
                raise ServeError(DIED) from error

    async def _read(self, process: Process) -> None:
        assert process.stdout is not None
        try:
            while line := await process.stdout.readline():
                message = json.loads(line)
                body = await process.stdout.readexactly(int(message.get("bytes", 0)))
                self._listen(message, body)
        except (ValueError, asyncio.IncompleteReadError):
            process.kill()
        await process.wait()
        self._fail(DIED, process)

    def _fail(self, fault: str, process: Process) -> None:
        for waiting in list(self.waiting.values()):
            if waiting.process is process and not waiting.answer.done():
                waiting.answer.set_exception(ServeError(fault))

    def _listen(self, message: dict[str, Any], body: bytes) -> None:
        waiting = self.waiting.get(int(message.get("id", -1)))
        if waiting is None or waiting.answer.done():
            return
        if "progress" in message:
            if waiting.progress is not None:
                waiting.progress(*message["progress"])
        elif message.get("ok"):
            waiting.answer.set_result(Reply(message.get("value") or {}, body))
        else:
            waiting.answer.set_exception(ServeError(str(message.get("error"))))

    async def stop(self) -> None:
        self.ended, process = True, self.process
        if process is not None:
            self._fail(STOPPING, process)
        if process is None or process.returncode is not None:
            return
        if process.stdin is not None:
            process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), GRACE)
        except TimeoutError:
            process.kill()
            await process.wait()


STOPPING = "the studio is being closed; start it again with `frisket studio`"
DIED = (
    "the process that does this ended in the middle of it (out of memory?); what it printed is in"
    " the terminal of `frisket studio`. Ask again: a new one is started"
)


@dataclass(slots=True)
class ServePool:
    """One child a lane: `quick` for frames, masks and weights, `model` for segmentation.

    `plan` foretells memory: many seconds, for which nothing else must wait.
    """

    _children: dict[Lane, _Child] = field(default_factory=dict)
    _numbers: Any = field(default_factory=lambda: count(1))

    async def call(
        self,
        op: str,
        args: dict[str, Any],
        *,
        body: bytes = b"",
        lane: Lane = "quick",
        progress: ServeProgress | None = None,
    ) -> Reply:
        """Have something done. ServeError says what is wrong with it; a cancelled call is told."""
        child = self._children.setdefault(lane, _Child())
        number = next(self._numbers)
        waiting = _Waiting(asyncio.get_running_loop().create_future(), progress)
        child.waiting[number] = waiting
        try:
            await child.send({"id": number, "op": op, "args": args}, body)
            return await waiting.answer
        except asyncio.CancelledError:
            # A child that died since has nothing to drop, and none is started to hear of it.
            if waiting.process is child.process and not child.ended:
                await asyncio.shield(child.send({"cancel": number}, b""))
            raise
        finally:
            del child.waiting[number]

    async def close(self) -> None:
        """End all children, by force those that take longer than GRACE seconds."""
        await asyncio.gather(*(child.stop() for child in self._children.values()))

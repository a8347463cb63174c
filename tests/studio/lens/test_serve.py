"""A child of the studio that dies is one named error, and a new child."""

import asyncio
import os
import signal

import pytest

from frisket.studio.serve_pool import ServeError, ServePool


def test_a_killed_child_is_named_and_another_is_started() -> None:
    async def run() -> None:
        pool = ServePool()
        call = asyncio.ensure_future(pool.call("nothing.there", {}))
        child = None
        while child is None or child.process is None:
            await asyncio.sleep(0.01)
            child = pool._children.get("quick")
        first = child.process.pid
        os.kill(first, signal.SIGKILL)
        with pytest.raises(ServeError, match="Ask again"):
            await call
        with pytest.raises(ServeError, match=r"no operation 'nothing\.there'"):
            await pool.call("nothing.there", {})
        assert child.process.pid != first
        for hostile in ({"op": "weights.see"}, {"clip": "\0"}, {"clip": "x" * 100_000}):
            with pytest.raises(ServeError):
                await pool.call("weights.see", {"config": "/nowhere.toml", **hostile})
        await pool.close()

    asyncio.run(run())

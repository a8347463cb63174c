"""The one stream: nothing is missed by a page that comes back, and what is lost is said."""

import asyncio
from collections.abc import AsyncIterator

from frisket.studio.events import RING, WAITING, EventStream


async def take(frames: AsyncIterator[str], count: int) -> list[dict[str, str]]:
    taken = []
    for _ in range(count):
        text = await asyncio.wait_for(anext(frames), 5)
        taken.append(dict(line.split(": ", 1) for line in text.strip().splitlines()))
    return taken


def test_a_page_that_comes_back_misses_nothing() -> None:
    async def run() -> None:
        stream = EventStream()
        stream.publish("job", {"n": 0})
        frames = stream.read("")
        (hello,) = await take(frames, 1)
        assert hello["event"] == "hello"
        stream.publish("job", {"n": 1})
        (first,) = await take(frames, 1)
        await frames.aclose()
        for number in (2, 3):
            stream.publish("mask", {"n": number})
        again = await take(stream.read(first["id"]), 3)
        assert [each["event"] for each in again] == ["hello", "mask", "mask"]
        assert [each["data"] for each in again[1:]] == ['{"n":2}', '{"n":3}']
        # Cut off right after the greeting it would still ask from where it was.
        assert again[0]["id"] == first["id"]

    asyncio.run(run())


def test_what_is_gone_or_another_servers_is_said() -> None:
    async def run() -> None:
        stream, other = EventStream(), EventStream()
        stream.publish("job", {})
        (hello,) = await take(stream.read(""), 1)
        for _ in range(RING + 1):
            stream.publish("job", {})
            other.publish("job", {})
        for last in (hello["id"], f"{hello['id']}0000", "7", "x-1", "-"):
            (frame,) = await take(stream.read(last), 1)
            assert frame["event"] == "refetch", last
        (frame,) = await take(other.read(hello["id"]), 1)  # numbers alike, another server
        assert frame["event"] == "refetch"

    asyncio.run(run())


def test_a_page_too_slow_is_ended_and_gets_the_rest_when_it_comes_back() -> None:
    async def run() -> None:
        stream = EventStream()
        frames = stream.read("")
        (hello,) = await take(frames, 1)
        count = WAITING + 50
        for number in range(count):
            stream.publish("job", {"n": number})
        await asyncio.sleep(0)
        assert [frame async for frame in frames] == []  # nothing after a gap
        rest = await take(stream.read(hello["id"]), 1 + count)
        assert rest[1]["data"] == '{"n":0}'
        assert rest[-1]["data"] == f'{{"n":{count - 1}}}'

    asyncio.run(run())


def test_closing_ends_every_stream_and_begins_none() -> None:
    async def run() -> None:
        stream = EventStream()
        frames = stream.read("")
        await take(frames, 1)
        stream.close()
        await asyncio.sleep(0)
        assert [frame async for frame in frames] == []
        assert [frame async for frame in stream.read("")] == []

    asyncio.run(run())

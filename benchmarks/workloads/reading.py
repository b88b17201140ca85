"""What it costs a client to read a stream: in this process, and from a server."""

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from benchmarks.command import playback
from benchmarks.peers.readers import ERRORS, URL, Event, Reader
from benchmarks.recording import Recording, record, record_large
from benchmarks.wire import ReceiveError, chunked_response
from benchmarks.workloads.workload import Figures, Stage, Workload, server_folder

CHUNK = 64 << 10
SMALL_CHUNK = 1 << 10


# -- all events of a recording, counted: a client that reconnects comes to no end -------------------------------------


def check_count(count: int, recording: Recording) -> None:
    if count != len(recording.events):
        raise ReceiveError(f"{count} events of {len(recording.events)} were read")


def check(events: Sequence[Event], recording: Recording) -> None:
    """Every event, once, in order, with the content it was sent with."""
    check_count(len(events), recording)
    for event, expected in zip(events, recording.events, strict=True):
        if (event.event, event.data, event.id) != expected:
            raise ReceiveError(f"instead of {str(expected)[:200]} was read {str(event)[:200]}")


def take(events: Iterator[Event], recording: Recording) -> None:
    """What the clock runs over. No event is kept, as in an application."""
    count = 0
    for _ in islice(events, len(recording.events)):
        count += 1
    check_count(count, recording)


async def take_async(events: AsyncIterator[Event], recording: Recording) -> None:
    count, all_of_them = 0, len(recording.events)
    async for _ in events:
        count += 1
        if count == all_of_them:
            break
    check_count(count, recording)


def take_and_check(events: Iterator[Event], recording: Recording) -> None:
    check(list(islice(events, len(recording.events))), recording)


async def take_and_check_async(events: AsyncIterator[Event], recording: Recording) -> None:
    taken: list[Event] = []
    async for event in events:
        taken.append(event)
        if len(taken) == len(recording.events):
            break
    check(taken, recording)


# -- the clock --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """For each event."""

    seconds: float
    cpu: float


def repeat(take_all: Callable[[], object], recording: Recording, at_least: float) -> Run:
    """Take a recording's events again and again for so many seconds."""
    gc.collect()  # what they were checked with before
    count = 0
    cpu = time.process_time()
    started = time.perf_counter()
    seconds = 0.0
    while seconds < at_least:
        take_all()
        count += len(recording.events)
        seconds = time.perf_counter() - started
    return Run(seconds / count, (time.process_time() - cpu) / count)


def time_decoder(reader: Reader, recording: Recording, chunk: int, at_least: float) -> Run:
    chunks = recording.chunks(chunk)
    take_and_check(reader.decode(chunks), recording)
    return repeat(lambda: take(reader.decode(chunks), recording), recording, at_least)


def time_client(reader: Reader, client: Any, url: str, recording: Recording, at_least: float) -> Run:
    def read(take: Callable[[Iterator[Event], Recording], None]) -> None:
        with reader.stream(client, url) as events:
            take(events, recording)

    with client:
        read(take_and_check)
        return repeat(lambda: read(take), recording, at_least)


def time_async_client(reader: Reader, url: str, recording: Recording, at_least: float) -> Run:
    client = reader.async_client()

    async def read(take: Callable[[AsyncIterator[Event], Recording], Any]) -> None:
        async with reader.async_stream(client, url) as events:
            await take(events, recording)

    with asyncio.Runner() as runner:
        runner.run(read(take_and_check_async))
        try:
            return repeat(lambda: runner.run(read(take_async)), recording, at_least)
        finally:
            runner.run(client.aclose())


# -- workloads --------------------------------------------------------------------------------------------------------


def reader_of(stage: Stage) -> Reader:
    assert stage.peer.reader is not None
    return stage.peer.reader


def decode(stage: Stage) -> Figures:
    reader, seconds = reader_of(stage), stage.sizes.streaming_seconds
    recording = record(stage.sizes.decoded)
    decoder = time_decoder(reader, recording, CHUNK, seconds)
    client = time_client(reader, reader.client_of(recording.chunks(CHUNK)), URL, recording, seconds)
    return {
        "events_per_s": 1 / decoder.seconds,
        "client_events_per_s": 1 / client.seconds,
        "cpu_us_per_event": decoder.cpu * 1e6,
        "cpu_share": decoder.cpu / decoder.seconds,
    }


def decode_large(stage: Stage) -> Figures:
    """By processor time: a disturbance would look like growth."""

    def ns_per_byte(size: int) -> float:
        recording = record_large(size)
        return time_decoder(reader_of(stage), recording, SMALL_CHUNK, stage.sizes.streaming_seconds).cpu / size * 1e9

    large, small = ns_per_byte(stage.sizes.large_event), ns_per_byte(stage.sizes.large_event // 10)
    return {"cpu_ns_per_byte": large, "growth": large / small}


def follow(stage: Stage) -> Figures:
    reader, seconds = reader_of(stage), stage.sizes.streaming_seconds
    recording = record(stage.sizes.followed)
    with server_folder() as folder:
        answer = folder / "answer"
        answer.write_bytes(chunked_response(recording.chunks(CHUNK)))
        with stage.start(playback(answer), folder) as server:
            url = f"http://127.0.0.1:{server.port}/"
            try:
                client = time_client(reader, reader.client(), url, recording, seconds)
                async_client = time_async_client(reader, url, recording, seconds)
            except ERRORS as error:
                raise ReceiveError(f"reading failed: {error!r}") from error
    return {
        "events_per_s": 1 / client.seconds,
        "async_events_per_s": 1 / async_client.seconds,
        "cpu_us_per_event": client.cpu * 1e6,
        "cpu_share": client.cpu / client.seconds,
    }


READING = (
    Workload(
        "decode",
        "A recorded stream of {sizes.decoded:,} events of 100 bytes, in chunks of 64 KiB",
        decode,
        {
            "events_per_s": "{:,.0f}",
            "client_events_per_s": "{:,.0f}",
            "cpu_us_per_event": "{:.2f}",
            "cpu_share": "{:.2f}",
        },
        reads=True,
        more_is_better=True,
        busy="cpu_share",
    ),
    Workload(
        "decode_large",
        "One event of {sizes.large_event:,} bytes, in chunks of 1 KiB",
        decode_large,
        {"cpu_ns_per_byte": "{:.2f}", "growth": "{:.2f}"},
        reads=True,
        more_is_better=False,
    ),
    Workload(
        "follow",
        "A client that reads {sizes.followed:,} events of 100 bytes from a server that has them ready",
        follow,
        {
            "events_per_s": "{:,.0f}",
            "async_events_per_s": "{:,.0f}",
            "cpu_us_per_event": "{:.2f}",
            "cpu_share": "{:.2f}",
        },
        reads=True,
        more_is_better=True,
        busy="cpu_share",
    ),
)

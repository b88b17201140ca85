"""The `openai` SDK, as a client of a server of our own."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest

from tests.clients.conftest import check_log
from tests.clients.openai_app import TOKENS
from tests.servers import conftest as servers
from tests.servers.servers import Server

APP = "tests.clients.openai_app:app"

MESSAGES: list[Any] = [{"role": "user", "content": "Wann fährt sie?"}]

Hear = Callable[[Any], None]
Ask = Callable[..., None]
"""Asks a model, reads its answer to the end, and hands over each chunk when it has it."""

serve = servers.serve  # the fixture


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server("uvicorn", APP, tmp_path_factory.mktemp("openai")) as server:
        yield server
        check_log(server)


def options(server: Server, path: str = "v1") -> dict[str, Any]:
    return {"base_url": f"http://127.0.0.1:{server.port}/{path}", "api_key": "secret", "max_retries": 0, "timeout": 20}


def ask(hear: Hear, server: Server, model: str, path: str = "v1") -> None:
    with openai.OpenAI(**options(server, path)) as client:
        for chunk in client.chat.completions.create(model=model, messages=MESSAGES, stream=True):
            hear(chunk)


def ask_async(hear: Hear, server: Server, model: str, path: str = "v1") -> None:
    async def read() -> None:
        async with openai.AsyncOpenAI(**options(server, path)) as client:
            async for chunk in await client.chat.completions.create(model=model, messages=MESSAGES, stream=True):
                hear(chunk)

    asyncio.run(read())


BOTH = pytest.mark.parametrize("ask", [ask, ask_async])


def contents(chunks: list[Any]) -> list[str]:
    return [chunk.choices[0].delta.content for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]


@BOTH
def test_a_completion_is_read_to_its_done(ask: Ask, server: Server) -> None:
    chunks: list[Any] = []
    ask(chunks.append, server, "good")
    assert contents(chunks) == TOKENS
    assert len(chunks) == len(TOKENS) + 3
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [choice.finish_reason for chunk in chunks for choice in chunk.choices] == [None] * 8 + ["stop"]
    assert chunks[-1].choices == []
    assert chunks[-1].usage.total_tokens == 9 + len(TOKENS)
    assert {chunk.model for chunk in chunks} == {"good"}
    assert "asked with Bearer secret" in server.journal


def test_the_helper_for_streams_puts_the_answer_together(server: Server) -> None:
    with (
        openai.OpenAI(**options(server)) as client,
        client.chat.completions.stream(model="good", messages=MESSAGES) as stream,
    ):
        deltas = [event.delta for event in stream if event.type == "content.delta"]
        answer = stream.get_final_completion().choices[0].message.content
    assert [delta for delta in deltas if delta] == TOKENS
    assert answer == "".join(TOKENS)


@BOTH
def test_an_error_on_the_way_is_raised_after_what_came_before(ask: Ask, server: Server) -> None:
    chunks: list[Any] = []
    with pytest.raises(openai.APIError, match="the model is overloaded") as caught:
        ask(chunks.append, server, "overloaded")
    assert contents(chunks) == TOKENS[:2]
    assert (caught.value.code, caught.value.type) == ("busy", "overloaded")


@BOTH
def test_an_exception_on_the_way_is_a_lost_connection(ask: Ask, server: Server) -> None:
    chunks: list[Any] = []
    with pytest.raises(openai.APIConnectionError):
        ask(chunks.append, server, "torn")
    assert contents(chunks) == TOKENS[:2]


@BOTH
def test_an_exception_before_the_first_chunk_is_a_status(ask: Ask, server: Server) -> None:
    with pytest.raises(openai.NotFoundError, match="no such model"):
        ask([].append, server, "none")


def test_a_server_that_stops_is_an_error_and_not_the_end_of_the_answer(serve: servers.Serve) -> None:
    server = serve(app=APP)
    chunks: list[Any] = []

    def hear(chunk: Any) -> None:
        chunks.append(chunk)
        if len(contents(chunks)) == 2:
            server.process.send_signal(signal.SIGTERM)

    with pytest.raises((json.JSONDecodeError, openai.APIError)):  # the first, by docs/other-clients.md
        ask(hear, server, "endless")
    assert contents(chunks) == TOKENS[:2]


@BOTH
def test_a_reader_that_leaves_ends_the_answer(ask: Ask, server: Server) -> None:
    chunks: list[Any] = []

    def hear(chunk: Any) -> None:
        chunks.append(chunk)
        if len(contents(chunks)) == 2:
            raise KeyError("enough")

    before = server.journal.count("endless has closed")
    with pytest.raises(KeyError, match="enough"):
        ask(hear, server, "endless")
    server.wait_for("endless has closed", before + 1)


@BOTH
@pytest.mark.parametrize(("path", "before"), [("numbered", [""]), ("retried", [])])
def test_ids_and_a_retry_are_more_than_it_can_take(ask: Ask, server: Server, path: str, before: list[str]) -> None:
    chunks: list[Any] = []
    try:
        ask(chunks.append, server, "good", path)
    except json.JSONDecodeError:  # as docs/other-clients.md says
        assert [chunk.choices[0].delta.content for chunk in chunks] == before
    else:  # as the standard says
        assert contents(chunks) == TOKENS


def test_responses_are_typed_events(server: Server) -> None:
    with openai.OpenAI(**options(server)) as client:
        events = list(client.responses.create(model="good", input="Wann?", stream=True))
        assert [event.sequence_number for event in events] == list(range(len(TOKENS) + 4))
        assert [event.delta for event in events if event.type == "response.output_text.delta"] == TOKENS
        assert events[-1].type == "response.completed"
        assert events[-1].response.output_text == "".join(TOKENS)
        with client.responses.stream(model="good", input="Wann?") as stream:
            assert [event.delta for event in stream if event.type == "response.output_text.delta"] == TOKENS
            assert stream.get_final_response().output_text == "".join(TOKENS)

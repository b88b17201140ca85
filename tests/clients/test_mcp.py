"""The `mcp` SDK's streamable HTTP client, with a server of our own."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import anyio
import mcp_types as types
import pytest
from mcp import Client
from mcp.shared.message import ClientMessageMetadata

from tests.clients.conftest import check_log, url
from tests.servers.servers import Server

pytestmark = pytest.mark.anyio

Noted = Callable[[], list[str]]

CRATES = ["apples", "Äpfel\u2028", "fish\nand chips", "🚢", "coal"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server("uvicorn", "tests.clients.mcp_app:app", tmp_path_factory.mktemp("mcp")) as server:
        yield server
        check_log(server)


@pytest.fixture
def noted(server: Server) -> Noted:
    """What the server noted since the test began."""
    before = len(server.journal)
    return lambda: server.journal[before:]


def texts(result: types.CallToolResult) -> list[str]:
    return [part.text for part in result.content if isinstance(part, types.TextContent)]


class Progress(list[tuple[float, float | None, str | None]]):
    async def note(self, progress: float, total: float | None, message: str | None) -> None:
        self.append((progress, total, message))


ALL_PROGRESS = [(number, len(CRATES), crate) for number, crate in enumerate(CRATES, 1)]


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_session_from_its_beginning_to_its_end(server: Server, noted: Noted, mode: str) -> None:
    async with Client(url(server, "/mcp"), mode=mode) as client:
        assert client.protocol_version == "2025-11-25"
        assert client.server_info is not None
        assert client.server_info.name == "harbour"
        tools = (await client.list_tools()).tools
        assert [tool.name for tool in tools] == ["load", "announce"]
        progress = Progress()
        result = await client.call_tool("load", {"crates": CRATES}, progress_callback=progress.note)
        assert texts(result) == [f"loaded {', '.join(CRATES)}"]
        assert progress == ALL_PROGRESS
    assert noted()[-1].endswith(" is over")
    assert not any("resumed /" in line for line in noted())


@pytest.mark.parametrize("cut", ["clean", "torn"])
async def test_a_call_whose_connection_breaks_is_read_on(server: Server, noted: Noted, cut: str) -> None:
    async with Client(url(server, "/mcp")) as client:
        progress = Progress()
        arguments = {"crates": CRATES, "cut": cut}
        result = await client.call_tool("load", arguments, progress_callback=progress.note)
        assert texts(result) == [f"loaded {', '.join(CRATES)}"]
        assert progress == ALL_PROGRESS
    assert sum("tools/call" in line for line in noted()) == 1
    assert sum("resumed /" in line for line in noted()) == 1


async def test_a_call_that_was_given_up_is_resumed_by_its_token(server: Server) -> None:
    async with Client(url(server, "/mcp")) as client:
        tokens: list[str] = []
        params = types.CallToolRequestParams(name="load", arguments={"crates": CRATES})
        request = types.CallToolRequest(params=params)
        with anyio.CancelScope() as first:

            async def note(token: str) -> None:
                tokens.append(token)
                if len(tokens) == 2:
                    first.cancel()

            metadata = ClientMessageMetadata(on_resumption_token_update=note)
            await client.session.send_request(
                request, types.CallToolResult, metadata=metadata, progress_callback=ignore
            )
        again: list[str] = []

        async def note_again(token: str) -> None:
            again.append(token)

        # The first stream goes on beside it, and nobody hears its answer.
        metadata = ClientMessageMetadata(resumption_token=tokens[1], on_resumption_token_update=note_again)
        result = await client.session.send_request(request, types.CallToolResult, metadata=metadata)
        assert texts(result) == [f"loaded {', '.join(CRATES)}"]
        assert len(again) == len(CRATES) - 2 + 1
        assert len({*tokens[:2], *again}) == len(CRATES) + 1


async def ignore(progress: float, total: float | None, message: str | None) -> None: ...


async def test_what_the_server_says_of_itself_comes_once_over_many_connections(server: Server, noted: Noted) -> None:
    said: list[object] = []

    async def note(message: types.LoggingMessageNotificationParams) -> None:
        said.append(message.data)

    announced = [f"announcement {number}" for number in range(7)]
    async with Client(url(server, "/mcp"), logging_callback=note) as client:
        result = await client.call_tool("announce", {"texts": announced[:5]})
        assert texts(result) == ["announced"]
        await client.call_tool("announce", {"texts": announced[5:]})
        with anyio.fail_after(20):
            while len(said) < len(announced):
                await anyio.sleep(0.01)
    assert said == announced
    assert noted().count("listened session") == 1
    assert noted().count("resumed session") >= 3

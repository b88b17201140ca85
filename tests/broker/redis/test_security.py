"""Users with the rights that are needed and no others, TLS, and passwords that nobody gets to see."""

from __future__ import annotations

import asyncio
import gc
import logging
import shlex
import subprocess
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.broker.redis.helpers import Feed, draft, everything, opened, text_of, until
from tests.broker.redis_server import RedisServer
from tests.cli.command import run
from tests.servers.servers import require
from tidings import Broker
from tidings.broker.entry import FINISH
from tidings.broker.redis import RedisStorage, keeper, listener
from tidings.broker.run import State
from tidings.broker.storage import Retention
from tidings.errors import PublishError, StorageError

pytestmark = pytest.mark.anyio

PASSWORD = "S3cr3t:/?#@%4 é"
"""It holds everything that has a meaning in a URL."""

RIGHTS = [
    *("~{tidings}:*", "&{tidings}:channel:*"),
    *(
        "+eval",
        "+evalsha",
        "+script|load",
        "+subscribe",
        "+unsubscribe",
        "+ping",
        "+time",
        "+zrangebyscore",
        "+zrangebylex",
        "+set",
    ),
    # What the scripts call.
    *("+hget", "+hmget", "+hset", "+xadd", "+xlen", "+xrange", "+xrevrange", "+xtrim", "+zadd", "+zrem", "+zscore"),
    *("+del", "+info", "+persist", "+pexpire", "+publish"),
]
"""What a user of the namespace "tidings" has to be allowed; the documentation says the same."""


def allow(server: RedisServer, *rights: str, name: str = "app") -> str:
    """Make a user with just these rights; return its URL."""
    server.client.execute_command("ACL", "SETUSER", name, "reset", "on", f">{PASSWORD}", *rights)
    return server.url_as(name, quote(PASSWORD, safe=""))


def refused(server: RedisServer) -> set[str]:
    """The commands, keys and notifications that users weren't allowed since the log was emptied."""
    # redis-py presents itself when it connects, and does without if it may not.
    return {entry["object"] for entry in server.client.acl_log()} - {"client|setinfo", "client"}


@asynccontextmanager
async def told_everything(caplog: pytest.LogCaptureFixture) -> AsyncIterator[Callable[[], str]]:
    """What the logs of all say, and the event loop."""
    told: list[str] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _loop, context: told.append(repr(context)))
    with caplog.at_level(logging.DEBUG):
        yield lambda: "\n".join([*told, caplog.text])
    loop.set_exception_handler(None)


def assert_no_password(*texts: str) -> None:
    for text in texts:
        for secret in (PASSWORD, quote(PASSWORD, safe=""), quote(PASSWORD), "S3cr3t"):
            assert secret not in text


async def use(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything that a storage does, its keeper included."""
    monkeypatch.setattr(keeper, "_BETWEEN_SWEEPS", 0.05)
    monkeypatch.setattr(listener, "_KEPT", 0.05)
    monkeypatch.setattr(listener, "_SILENCE", 0.1)
    feed = Feed()
    async with opened(url, "tidings", Retention(3, 0.2, 0.01), feed=feed) as storage:
        storage.listen("news")
        storage.listen("other")
        await until(lambda: len(feed.skips) == 2)
        for number in range(6):
            await storage.append("news", draft(str(number)))
        await storage.finish("news")
        await until(lambda: len(feed.entries) == 7)
        storage.unlisten("other")
        assert (await storage.read(["news", "other"], 0)).newest >= 7
        assert [info.name for info in await storage.channels("", 10)] == ["news"]
        assert await storage.claim("seat", 1.0)
        await run_in_background(storage)
        await asyncio.sleep(0.4)  # it is asked whether it is there
        assert len(feed.skips) == 2
        # The stream goes a second after its last event is too old; then the channel is forgotten.
        while await storage.channels("", 10):
            await asyncio.sleep(0.05)
    async with opened(url, "tidings", Retention(3, None, None)) as storage:
        for number in range(5):
            await storage.append("kept", draft(str(number)))
        assert [text_of(entry) for entry in await everything(storage, "kept")] == ["2", "3", "4"]


async def run_in_background(storage: RedisStorage) -> None:
    """One run that ends by itself, one whose producer is lost."""
    for channel in ("ends", "is lost"):
        assert await storage.begin(channel, channel, "process", 10.0)
        assert await storage.extend(channel, channel, 0, [draft("1")])
    assert await storage.extend("ends", "ends", 1, [FINISH], State.FINISHED)
    assert await storage.renew("process", -1.0)
    (lease,) = await storage.leases()
    assert await storage.abort(lease, [draft("lost"), FINISH], State.ABORTED, 10) == 1
    assert await storage.leases() == []
    run = await storage.run_of("is lost")
    assert run is not None
    assert run.state is State.ABORTED


# -- users ------------------------------------------------------------------------------------------------------------


async def test_a_user_with_the_documented_rights_can_do_everything(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    url = allow(server, *RIGHTS)
    server.client.execute_command("ACL", "LOG", "RESET")
    async with told_everything(caplog) as told:
        await use(url, monkeypatch)
        gc.collect()
    assert "tidings.broker" not in told()  # neither a warning nor a failed sweep
    assert refused(server) == set()
    assert_no_password(told())


def test_the_rights_are_those_of_the_documentation() -> None:
    page = (Path(__file__).parents[3] / "docs" / "several-machines.md").read_text(encoding="utf-8")
    begin = page.index("redis-cli ACL SETUSER board on ")
    words = shlex.split(page[begin : page.index("```", begin)].replace("\\\n", " "))
    assert words[:6] == ["redis-cli", "ACL", "SETUSER", "board", "on", ">crabapple"]
    resets = {"resetkeys", "resetchannels", "-@all"}
    assert set(words[6:]) & resets == resets
    rights = [word for word in words[6:] if word not in resets]
    assert sorted(rights) == sorted(RIGHTS)


@pytest.mark.parametrize("missing", RIGHTS)
async def test_none_of_these_rights_is_one_too_many(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    server.client.flushdb()
    url = allow(server, *(right for right in RIGHTS if right != missing))
    server.client.execute_command("ACL", "LOG", "RESET")
    # It fails, or waits for what it isn't told: how soon the server has refused something is all that counts.
    using = asyncio.ensure_future(use(url, monkeypatch))
    await until(lambda: using.done() or refused(server))
    using.cancel()
    await asyncio.wait([using])
    assert using.cancelled() or using.exception() is not None
    objects = refused(server)
    if missing.startswith("+"):
        assert objects == {missing[1:]}
    else:
        assert objects
        assert all(name.startswith(("{tidings}:", "evalsha")) for name in objects)


async def test_a_user_of_one_namespace_reaches_no_other(server: RedisServer) -> None:
    url = allow(server, *RIGHTS)
    async with Broker(server.url, namespace="private") as broker:
        await broker.publish("news", "for others")
    with pytest.raises(StorageError, match="NoPermissionError"):
        async with Broker(url, namespace="private"):
            pass  # not reached


async def test_a_database_of_its_own_needs_one_right_more(server: RedisServer) -> None:
    url = allow(server, *RIGHTS, "+select").replace("/0", "/3")
    async with Broker(url) as broker:
        await broker.publish("news", "in the database 3")
    assert server.connect(db=3).exists("{tidings}:log")


async def test_a_namespace_may_hold_what_patterns_are_made_of(server: RedisServer) -> None:
    for namespace in ("a*b", "a?b", "[ab]", "a\\b", "shop:1", "ünï", "a b"):
        async with Broker(server.url, namespace=namespace) as one, Broker(server.url, namespace="axb") as other:
            async with one.subscribe("news", last_event_id="earliest") as subscription:
                reading = asyncio.ensure_future(anext(subscription))
                await other.publish("news", "of the other")
                await one.publish("news", namespace)
                assert (await reading).data == namespace
            assert [info.name for info in await one.channels()] == ["news"]


# -- passwords --------------------------------------------------------------------------------------------------------


def wrong(url: str) -> str:
    """With another password."""
    assert quote(PASSWORD, safe="") in url
    return url.replace(":S3cr3t", ":S3cr3tWrong").replace("password=S3cr3t", "password=S3cr3tWrong")


@pytest.fixture(params=["redis", "unix", "query"])
def guarded(request: pytest.FixtureRequest, own_server: Callable[..., RedisServer], tmp_path: Path) -> str:
    """The URL of a server that asks for a password; in some forms."""
    settings: dict[str, Any] = {"requirepass": "admin"}
    if request.param == "unix":
        settings["unixsocket"] = tmp_path / "redis.sock"
    server = own_server(**settings)
    url = allow(server, "allkeys", "allchannels", "allcommands")
    if request.param == "query":
        place = url.partition("@")[2]
        return f"redis://{place}?username=app&password={quote(PASSWORD, safe='')}"
    return url


async def test_the_right_password_opens_the_log(guarded: str) -> None:
    async with Broker(guarded) as broker, broker.subscribe("news", last_event_id="earliest") as subscription:
        await broker.publish("news", 1)
        assert (await anext(subscription)).data == 1


async def test_a_wrong_password_is_an_error_that_does_not_repeat_it(
    guarded: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with told_everything(caplog) as told:
        broker = Broker(wrong(guarded))
        with pytest.raises(StorageError, match="invalid username-password pair") as refusal:
            await broker.__aenter__()
        assert_no_password(
            *("".join(traceback.format_exception(refusal.value)), repr(refusal.value), told()),
            *(repr(broker), str(vars(broker)), repr(broker._storage)),
        )


async def test_a_password_that_is_changed_is_in_no_log(
    own_server: Callable[..., RedisServer], caplog: pytest.LogCaptureFixture
) -> None:
    server = own_server()
    url = allow(server, *RIGHTS)
    feed = Feed()
    async with told_everything(caplog) as told:
        async with opened(url, "tidings", feed=feed, timeout=2.0) as storage:
            storage.listen("news")
            await storage.append("news", draft("1"))
            await until(lambda: feed.skips)
            server.client.execute_command("ACL", "SETUSER", "app", "resetpass", ">another")
            for kind in ("normal", "pubsub"):
                server.client.client_kill_filter(_type=kind, skipme=True)
            await until(lambda: "AuthenticationError" in told())  # the listener, which is the first to try again
            failures: list[BaseException] = []
            calls: list[Callable[[], Awaitable[object]]] = [
                lambda: storage.append("news", draft("2")),
                lambda: storage.read(["news"], 0),
                lambda: storage.channels("", 10),
            ]
            for call in calls:
                with pytest.raises((PublishError, StorageError), match="AuthenticationError") as failure:
                    await call()
                failures.append(failure.value)
            assert_no_password(*("".join(traceback.format_exception(failure)) for failure in failures))
            # And when it is changed back, everybody reads on.
            allow(server, *RIGHTS)
            await until(lambda: len(feed.skips) >= 2)
            await storage.append("news", draft("3"))
            await until(lambda: feed.texts()[-1:] == ["3"])
        assert_no_password(told())


async def test_a_server_that_repeats_what_it_does_not_understand(
    own_server: Callable[..., RedisServer], caplog: pytest.LogCaptureFixture
) -> None:
    # Without AUTH the server says "unknown command 'AUTH', with args beginning with: …".
    server = own_server(rename_command='AUTH ""')
    url = server.url_as("app", quote(PASSWORD, safe=""))
    async with told_everything(caplog) as told:
        with pytest.raises(StorageError, match="AUTH") as refusal:
            await Broker(url).__aenter__()
        assert_no_password("".join(traceback.format_exception(refusal.value)), told())


@pytest.mark.parametrize("command", [("publish", "URL", "news", "x"), ("channels", "URL")])
def test_a_command_shows_no_password(own_server: Callable[..., RedisServer], command: tuple[str, ...]) -> None:
    server = own_server()
    url = allow(server, *RIGHTS)
    for address, code in ((url, 0), (wrong(url), 1)):
        result = run(*({"URL": address}.get(word, word) for word in command))
        assert result.returncode == code, result.stderr
        assert_no_password(result.stdout, result.stderr)
        if code:
            assert result.stderr.startswith(f"tidings: {server.url} can't be read: AuthenticationError")


# -- TLS --------------------------------------------------------------------------------------------------------------


def openssl(folder: Path, *arguments: str) -> None:
    command = [require("openssl", "openssl"), *arguments]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=60)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority, the server's certificate, a client's, and another authority."""
    folder = tmp_path_factory.mktemp("certificates")
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
    for authority in ("ca", "stranger"):
        openssl(
            folder,
            *("req", "-x509", *curve, "-keyout", f"{authority}.key", "-out", f"{authority}.pem", "-subj", "/CN=test"),
            *("-addext", "keyUsage=critical,keyCertSign", "-addext", "basicConstraints=critical,CA:TRUE"),
        )
    for name in ("server", "client"):
        openssl(folder, "req", *curve, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        (folder / "names").write_text("subjectAltName=DNS:localhost\nauthorityKeyIdentifier=keyid\n")
        openssl(
            folder,
            *("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"),
            *("-out", f"{name}.pem", "-days", "2", "-extfile", "names"),
        )
    return folder


@pytest.fixture(scope="module")
def tls_server(certificates: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """It shows its certificate, which is for localhost, and asks for one."""
    with RedisServer(
        tmp_path_factory.mktemp("tls"),
        tls_cert_file=certificates / "server.pem",
        tls_key_file=certificates / "server.key",
        tls_ca_cert_file=certificates / "ca.pem",
        tls_auth_clients="optional",
    ) as server:
        yield server


async def publish_and_receive(url: str, namespace: str) -> None:
    async with Broker(url, namespace=namespace) as broker, broker.subscribe("news") as subscription:
        reading = asyncio.ensure_future(anext(subscription))
        await until(lambda: broker._open is not None and broker._open.log._channels)
        await broker.publish("news", "x" * 100_000)
        assert (await reading).data == "x" * 100_000


@pytest.mark.parametrize("scheme", ["rediss", "valkeys"])
async def test_tls_with_the_authority_in_the_url(
    tls_server: RedisServer, certificates: Path, namespace: str, scheme: str
) -> None:
    authority = quote(str(certificates / "ca.pem"))
    await publish_and_receive(f"{scheme}://localhost:{tls_server.port}/0?ssl_ca_certs={authority}", namespace)


async def test_tls_with_a_certificate_for_the_client(
    own_server: Callable[..., RedisServer], certificates: Path, namespace: str
) -> None:
    server = own_server(
        tls_cert_file=certificates / "server.pem",
        tls_key_file=certificates / "server.key",
        tls_ca_cert_file=certificates / "ca.pem",
        tls_auth_clients="optional",
    )
    admin = server.connect(ssl_check_hostname=False)
    admin.config_set("tls-auth-clients", "yes")
    url = f"rediss://localhost:{server.port}?ssl_ca_certs={certificates / 'ca.pem'}"
    with pytest.raises(StorageError, match=f"rediss://localhost:{server.port}"):
        await Broker(url).__aenter__()
    keys = f"&ssl_certfile={certificates / 'client.pem'}&ssl_keyfile={certificates / 'client.key'}"
    await publish_and_receive(url + keys, namespace)


@pytest.mark.parametrize(
    ("host", "authority", "why"),
    [
        ("localhost", "", "CERTIFICATE_VERIFY_FAILED|certificate verify failed"),
        ("localhost", "stranger.pem", "CERTIFICATE_VERIFY_FAILED|certificate verify failed"),
        ("127.0.0.1", "ca.pem", "IP address mismatch"),
    ],
)
async def test_a_certificate_that_proves_nothing_is_refused(
    tls_server: RedisServer, certificates: Path, host: str, authority: str, why: str
) -> None:
    query = f"?ssl_ca_certs={certificates / authority}" if authority else ""
    broker = Broker(f"rediss://:{quote(PASSWORD, safe='')}@{host}:{tls_server.port}/0{query}")
    with pytest.raises(StorageError, match=why) as refusal:
        await broker.__aenter__()
    assert_no_password("".join(traceback.format_exception(refusal.value)))


async def test_what_is_not_to_be_proven_is_not_asked_for(
    tls_server: RedisServer, certificates: Path, namespace: str
) -> None:
    place = f"rediss://127.0.0.1:{tls_server.port}/0"
    await publish_and_receive(f"{place}?ssl_cert_reqs=none", namespace)
    await publish_and_receive(
        f"{place}?ssl_check_hostname=false&ssl_ca_certs={certificates / 'ca.pem'}", f"{namespace}-unnamed"
    )


async def test_a_file_that_is_not_there_is_a_storage_error(tls_server: RedisServer, tmp_path: Path) -> None:
    broker = Broker(f"rediss://localhost:{tls_server.port}/0?ssl_ca_certs={tmp_path / 'ca.pem'}")
    with pytest.raises(StorageError, match="No such file"):
        await broker.__aenter__()


async def test_plain_text_to_a_port_of_tls_is_an_error_in_time(tls_server: RedisServer) -> None:
    for url in (
        f"redis://localhost:{tls_server.port}",
        f"redis://:{quote(PASSWORD, safe='')}@localhost:{tls_server.port}",
    ):
        with pytest.raises(StorageError) as refusal:
            await Broker(url, publish_timeout=2.0).__aenter__()
        assert_no_password("".join(traceback.format_exception(refusal.value)))


async def test_tls_to_a_port_of_plain_text_is_an_error_in_time(server: RedisServer) -> None:
    with pytest.raises(StorageError):
        await Broker(f"rediss://localhost:{server.port}", publish_timeout=2.0).__aenter__()

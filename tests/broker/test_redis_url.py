"""The URL of a log in Redis or Valkey: what is taken, what is refused and why, and that no message holds a password."""

from __future__ import annotations

import subprocess
import sys
import traceback
from typing import Any

import pytest
from redis.asyncio import SSLConnection, UnixDomainSocketConnection

from tests.cli.command import run
from tidings import Broker
from tidings.broker.redis import RedisStorage
from tidings.broker.redis.keys import Keys
from tidings.broker.redis.known import Known
from tidings.broker.redis.server import Server


def options_of(url: str) -> dict[str, Any]:
    """What redis-py is told, both for commands and for notifications."""
    server = Server(url, Keys("shop", 0), Known(), 5.0)
    ours = {"socket_timeout", "socket_connect_timeout", "retry", "protocol", "himport_registry"}
    pool = server._pool
    kept = pool.connection_kwargs
    assert (kept["socket_timeout"], kept["socket_connect_timeout"], kept["protocol"]) == (None, 5.0, 2)
    assert kept["retry"].get_retries() == 0
    assert server._free._value == 4
    found = {name: value for name, value in kept.items() if name not in ours}
    return found | (
        {"connection_class": pool.connection_class} if pool.connection_class in {SSLConnection, UNIX} else {}
    )


UNIX = UnixDomainSocketConnection
PLAIN = {"host": "localhost", "port": 6379}
TLS = {"connection_class": SSLConnection}

TAKEN: dict[str, dict[str, Any]] = {
    "redis://localhost": {"host": "localhost"},
    "redis://localhost/": {"host": "localhost"},
    "redis://localhost:6379/0": {**PLAIN, "db": 0},
    "redis://127.0.0.1:1/15": {"host": "127.0.0.1", "port": 1, "db": 15},
    "redis://[::1]:65535/3": {"host": "::1", "port": 65535, "db": 3},
    "redis://redis-0.cache_1.internal:6379": {"host": "redis-0.cache_1.internal", "port": 6379},
    "redis://localhost?db=2": {"host": "localhost", "db": 2},
    "redis://localhost/?db=2": {"host": "localhost", "db": 2},
    "redis://localhost:6379/0?password=a%40b": {**PLAIN, "db": 0, "password": "a@b"},
    "redis://localhost?password=a@b&username=u": {"host": "localhost", "password": "a@b", "username": "u"},
    "redis://:secret@localhost:6379": {**PLAIN, "password": "secret"},
    "redis://u:p%40%3A%2F%3F%23%25%20%C3%A9@localhost:6379": {**PLAIN, "username": "u", "password": "p@:/?#% é"},
    "redis://u:a:b@localhost:6379": {**PLAIN, "username": "u", "password": "a:b"},
    "redis://valkey:secret@localhost:6379": {**PLAIN, "username": "valkey", "password": "secret"},
    "redis://nobody@localhost:6379": {**PLAIN, "username": "nobody"},
    "valkey://u:secret@localhost:6379/1": {**PLAIN, "username": "u", "password": "secret", "db": 1},
    "rediss://localhost:6379": {**PLAIN, **TLS},
    "valkeys://localhost:6379": {**PLAIN, **TLS},
    "rediss://localhost:6379?ssl_ca_certs=/etc/ca.pem": {**PLAIN, **TLS, "ssl_ca_certs": "/etc/ca.pem"},
    "rediss://localhost:6379?ssl_certfile=a&ssl_keyfile=b&ssl_cert_reqs=none&ssl_check_hostname=false": {
        **(PLAIN | TLS),
        "ssl_certfile": "a",
        "ssl_keyfile": "b",
        "ssl_cert_reqs": "none",
        "ssl_check_hostname": False,
    },
    "unix:///run/redis.sock": {"path": "/run/redis.sock", "connection_class": UNIX},
    "unix:///a%20b%3F.sock?db=1": {"path": "/a b?.sock", "db": 1, "connection_class": UNIX},
    "unix://u:secret@/run/redis.sock": {
        "path": "/run/redis.sock",
        "connection_class": UNIX,
        "username": "u",
        "password": "secret",
    },
    "unix:///run/redis.sock?password=secret": {
        "path": "/run/redis.sock",
        "password": "secret",
        "connection_class": UNIX,
    },
}


@pytest.mark.parametrize("url", TAKEN)
def test_redis_py_is_told_what_the_url_says(url: str) -> None:
    assert isinstance(Broker(url)._storage, RedisStorage)
    assert options_of(url) == TAKEN[url]


FORMS = "redis://host:6379/0, rediss:// (with TLS) or unix:///run/redis.sock; valkey:// and valkeys:// are the same"

REFUSED = {
    # No host, no port, no database.
    "redis://": "needs a host",
    "redis:///0": "needs a host",
    "valkeys://:6379": "valkeys://localhost:6379/0",
    "redis://:secret@": "needs a host",
    "redis://:secret@:6379": "needs a host",
    **{
        f"{scheme}://localhost:{port}": "a port from 1 to 65535"
        for scheme in ("redis", "rediss", "valkey")
        for port in ("", "0", "65536", "999999", "-1", "6379x", "٣", "secret")
    },
    "redis://::1:6379": "it needs a host",
    "redis://[::1": "port from 1 to 65535",
    "redis://[secret]": "port from 1 to 65535",
    "redis://[]": "port from 1 to 65535",
    "redis://user:secret@[::1::]": "its host is none",
    "redis://user:secret@\u2100": "its host is none",  # it becomes a/c where hosts are compared
    **{
        f"redis://localhost/{path}": "number of a database"
        for path in ("one", "1/2", "0/", "/0", "-1", "1.5", "٣", "9" * 10)
    },
    "redis://localhost/1?db=1": "the database stands twice",
    "redis://localhost?db=one": "db must be a number",
    "redis://localhost?db=-1": "db must be a number",
    "unix://": "unix:///run/redis.sock",
    "unix:///": "path of a socket",
    "unix:///?db=0": "path of a socket",
    "unix://run/redis.sock": "three slashes",
    "unix://redis.sock": "three slashes",
    "unix://user:secret@": "path of a socket",
    "unix:///a%00b": "null character",
    # Passwords that are not encoded.
    "redis://:se@cret@localhost": "'@' is written %40",
    "redis://:se/cret@localhost": "'/' %2F",
    "redis://:1/cret@localhost": "'/' %2F",
    "redis://:se?cret@localhost": "behind '?' stand options",
    "redis://user:123?cret=x@localhost": "what stands behind the question mark is no option",
    "redis://:se#cret@localhost": "'#' %23",
    "redis://:se cret@localhost": "' ' %20",
    "redis://:secret\n@localhost": "is written",
    "redis://:se%cret@localhost": "'%' %25",
    "redis://:secret%ff@localhost": "must be UTF-8",
    "unix://:se/cret@/run/redis.sock": "'/' %2F",
    "redis://localhost#secret": "'#' %23",
    # Options.
    "redis://localhost?": "behind '?' stand options",
    "redis://localhost?secret": "behind '?' stand options",
    "redis://localhost?password=secret&&db=1": "behind '?' stand options",
    "redis://localhost?password=%ff": "must be UTF-8",
    "redis://localhost?password=": "password must be something",
    "redis://localhost?password=secret&password=secret": "an option stands twice",
    "redis://:secret@localhost?password=secret": "in front of the '@', or both in the query",
    "redis://user@localhost?password=secret": "in front of the '@', or both in the query",
    **{
        f"redis://localhost?{name}=1": f"{name} is no option; db, username, password, ssl_ca_certs, "
        for name in (
            *("socket_timeout", "socket_connect_timeout", "retry_on_timeout", "max_connections", "protocol", "timeout"),
            *("health_check_interval", "legacy_responses", "host", "port", "path", "retry", "decode_responses"),
            *("encoding", "connection_class", "client_name", "history", "namespace", "DB", "Password"),
        )
    },
    "rediss://localhost?ssl_ca_data=x": "ssl_ca_data is no option",
    "redis://localhost?ssl_ca_certs=ca.pem": "go with rediss:// or valkeys://",
    "valkey://localhost?ssl_cert_reqs=required": "go with rediss:// or valkeys://",
    "unix:///run/redis.sock?ssl_ca_certs=ca.pem": "go with rediss:// or valkeys://",
    "rediss://localhost?ssl_cert_reqs=no": "ssl_cert_reqs must be required, optional or none",
    "rediss://localhost?ssl_check_hostname=off": "ssl_check_hostname must be true or false",
    # Schemes.
    **{
        f"{scheme}://:secret@localhost:6379/0": FORMS
        for scheme in ("redis+tls", "valkeyss", "REDIS", "http", "redis-sentinel", "tcp", "unixs")
    },
    "redis:localhost": "must be memory://",
    "redis:/:secret@localhost": "must be memory://",
}


@pytest.mark.parametrize("url", REFUSED)
def test_a_url_that_would_be_misunderstood_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"^'url' ") as refusal:
        Broker(url)
    assert REFUSED[url] in str(refusal.value)
    told = "".join(traceback.format_exception(refusal.value))  # with the errors that it came from
    for part in ("secret", "cret@", "'cret", "cret=", "se%"):
        assert part not in told.replace("/secret", "")


def test_a_misspelt_option_is_named() -> None:
    with pytest.raises(ValueError, match="pasword is no option") as refusal:
        Broker("redis://localhost?pasword=secret")
    assert "secret" not in str(refusal.value)


def name_of(url: str) -> str:
    return Server(url, Keys("shop", 0), Known(), None).name


def test_all_that_is_said_of_a_server_is_its_place() -> None:
    assert name_of("redis://u:p%40w@example.org:1/2") == "redis://example.org:1/2"
    assert name_of("valkeys://:pw@[::1]:1?ssl_keyfile=key") == "valkeys://[::1]:1"
    assert name_of("unix://u:pw@/run/redis.sock?db=1") == "unix:///run/redis.sock"
    assert name_of("unix:///run/redis.sock?password=pw") == "unix:///run/redis.sock"
    assert name_of("redis://h?username=u&password=p@w") == "redis://h"


def test_making_a_broker_connects_to_nothing() -> None:
    Broker("redis://localhost:1")
    Broker("unix:///nowhere/redis.sock")
    Broker("rediss://localhost:1?ssl_ca_certs=/nowhere/ca.pem")


# -- without redis-py -------------------------------------------------------------------------------------------------

WITHOUT_REDIS_PY = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "redis":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
"""


def test_the_extra_is_asked_for_when_a_broker_is_made() -> None:
    program = f"{WITHOUT_REDIS_PY}\nimport tidings\ntidings.Broker()\ntidings.Broker('redis://:secret@localhost')"
    ended = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True, timeout=60)
    assert ended.stderr.splitlines()[-1].endswith("a broker on Redis needs redis-py: pip install 'tidings[redis]'")
    assert ended.stderr.startswith("Traceback")


def test_a_wrong_url_is_refused_before_the_extra_is_asked_for() -> None:
    program = f"{WITHOUT_REDIS_PY}\nimport tidings\ntidings.Broker('redis://localhost:x')"
    ended = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True, timeout=60)
    assert ended.stderr.splitlines()[-1].startswith("ValueError: 'url' 'redis://…' can't be used")


@pytest.mark.parametrize("command", [("publish", "URL", "news", "x"), ("channels", "URL")])
def test_a_command_without_the_extra_says_what_to_install(command: tuple[str, ...]) -> None:
    arguments = [{"URL": "redis://:secret@localhost"}.get(word, word) for word in command]
    program = f"{WITHOUT_REDIS_PY}\nfrom tidings.cli import main\nsys.argv[1:] = {arguments!r}\nmain()"
    ended = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == "tidings: a broker on Redis needs redis-py: pip install 'tidings[redis]'\n"


@pytest.mark.parametrize("command", [("publish", "URL", "news", "x"), ("channels", "URL")])
def test_a_command_refuses_a_wrong_url_without_its_password(command: tuple[str, ...]) -> None:
    result = run(*({"URL": "redis://:secret@localhost:x"}.get(word, word) for word in command))
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("tidings: BROKER 'redis://…' can't be used: it needs a host")
    assert "secret" not in result.stderr

"""`tidings doctor`: its findings about real servers, behind a real nginx."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command import DEADLINE, run, start
from tests.servers.proxies import MAIN
from tests.servers.servers import Server, free_port, require, wait_until

LOCATIONS = """
gzip_min_length 0;
proxy_http_version 1.1;
proxy_set_header Connection "";
server {{
    listen 127.0.0.1:{port};
    location /good/ {{ proxy_pass http://127.0.0.1:{app}/; }}
    location /buffered/ {{
        proxy_pass http://127.0.0.1:{app}/;
        proxy_http_version 1.0;
        proxy_buffering on;
        proxy_ignore_headers X-Accel-Buffering;
    }}
    location /gzip/ {{
        proxy_pass http://127.0.0.1:{app}/;
        gzip_types text/event-stream;
    }}
    location /impatient/ {{
        proxy_pass http://127.0.0.1:{app}/;
        proxy_read_timeout 2s;
    }}
}}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    # h11 ends answers to HTTP/1.0 by closing; only such ones are held by nginx until a buffer is full.
    with Server("uvicorn-asyncio-h11", "tests.cli.doctor_app:app", tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture(scope="module")
def address(server: Server) -> str:
    return f"http://127.0.0.1:{server.port}"


@pytest.fixture(scope="module")
def nginx(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Its address; the folders of paths are the ways in which it is configured."""
    folder, port = tmp_path_factory.mktemp("nginx"), free_port()
    path, log = folder / "nginx.conf", folder / "error.log"
    path.write_text(MAIN.format(folder=folder, configuration=LOCATIONS.format(port=port, app=server.port)))
    process = subprocess.Popen([require("nginx", "nginx-light"), "-c", str(path), "-e", str(log)])

    def answers() -> bool:
        assert process.poll() is None, log.read_text()
        return (folder / "nginx.pid").exists() and (folder / "nginx.pid").read_text().strip() == str(process.pid)

    try:
        wait_until(answers, what="nginx answers")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(DEADLINE)


class Report:
    def __init__(self, *arguments: str, code: int) -> None:
        result = run("doctor", *arguments, "--json")
        assert result.returncode == code, result
        assert "Traceback" not in result.stderr
        self.findings: list[dict[str, Any]] = json.loads(result.stdout)["findings"]
        self.levels = {finding["check"]: finding["level"] for finding in self.findings}

    def at(self, *levels: str) -> set[str]:
        return {finding["check"] for finding in self.findings if finding["level"] in levels}

    def text(self, check: str) -> str:
        return " ".join(f"{each['seen']} {each['change']}" for each in self.findings if each["check"] == check)


# -- what stands in between -------------------------------------------------------------------------------------------


def test_a_good_stream_behind_a_good_proxy_needs_no_change(nginx: str) -> None:
    report = Report(f"{nginx}/good/numbers", "--seconds", "2", code=0)
    assert report.at("warning", "problem") == set()
    assert report.levels["buffering"] == "ok"
    assert report.levels["resuming"] == "ok"
    assert report.levels["retry"] == "ok"


def test_a_buffer_is_found(nginx: str) -> None:
    report = Report(f"{nginx}/buffered/numbers", "--seconds", "3", code=1)
    assert report.at("problem") == {"buffering"}
    assert "proxy_ignore_headers X-Accel-Buffering" in report.text("buffering")


def test_a_buffer_that_holds_the_head_back_is_found(nginx: str) -> None:
    report = Report(f"{nginx}/buffered/silent", "--seconds", "1", code=1)
    assert report.at("problem") == {"connection"}
    assert "holds the head back" in report.text("connection")


def test_a_stream_whose_arrival_tells_nothing_is_not_called_well(address: str) -> None:
    report = Report(f"{address}/silent", "--seconds", "1", code=0)
    assert report.levels["buffering"] == "unknown"
    assert report.levels["keep-alive"] == "unknown"
    assert "--seconds 20" in report.text("keep-alive")


def test_a_stream_that_sends_nothing_is_not_called_well(address: str) -> None:
    report = Report(f"{address}/mute", "--seconds", "1", code=0)
    assert report.at("unknown") == {"time-to-first-byte", "buffering", "keep-alive", "resuming"}
    assert "no byte came" in report.text("buffering")


def test_a_proxy_that_compresses_and_flushes_is_warned_of(nginx: str) -> None:
    report = Report(f"{nginx}/gzip/numbers", "--seconds", "2", code=0)
    assert report.at("warning") == {"content-encoding"}
    assert "gzip_types" in report.text("content-encoding")
    assert report.levels["buffering"] == "ok"


def test_a_middleware_that_compresses_and_flushes_is_warned_of(address: str) -> None:
    report = Report(f"{address}/compressed/by-hand", "--seconds", "1.5", code=0)
    assert report.at("warning") == {"cache-control", "content-encoding"}
    assert "GZipMiddleware" in report.text("content-encoding")


def test_a_compressor_that_keeps_what_it_gets_is_found(address: str) -> None:
    report = Report(f"{address}/kept", "--seconds", "1", code=1)
    assert report.at("problem") == {"content-encoding"}
    assert "no text could be read" in report.text("content-encoding")


def test_a_silence_that_a_proxy_does_not_allow_is_found(nginx: str) -> None:
    report = Report(f"{nginx}/impatient/silent", "--seconds", "6", code=1)
    assert report.at("problem") == {"cut"}
    assert "Something allows 2 s of silence" in report.text("cut")
    assert "proxy_read_timeout" in report.text("cut")


def test_a_stream_that_begins_again_is_found(address: str) -> None:
    report = Report(f"{address}/repeating", "--seconds", "1", code=1)
    assert report.at("problem") == {"resuming"}
    assert "Last-Event-ID" in report.text("resuming")


# -- answers that are no streams --------------------------------------------------------------------------------------


def test_a_page_is_no_stream(address: str) -> None:
    report = Report(f"{address}/page", "--seconds", "1", code=1)
    assert {"content-type", "content-length"} <= report.at("problem")


def test_a_missing_path_is_explained(address: str) -> None:
    report = Report(f"{address}/missing", code=1)
    assert report.at("problem") == {"status"}
    assert report.text("status").startswith("404.")


def test_a_redirect_is_named(address: str) -> None:
    report = Report(f"{address}/moved", "--seconds", "1", code=0)
    assert report.text("redirect").startswith(f"308 to {address}/numbers.")


def test_an_address_where_nothing_listens(tmp_path: Path) -> None:
    report = Report(f"http://127.0.0.1:{free_port()}/", code=3)
    assert report.at("problem") == {"connection"}


# -- options ----------------------------------------------------------------------------------------------------------


def test_pages_of_another_origin(address: str) -> None:
    report = Report(f"{address}/numbers", "--seconds", "1", "--origin", "https://app.example", code=1)
    assert report.at("problem") == {"cors"}


def test_a_body_and_headers_are_sent(address: str) -> None:
    report = Report(
        f"{address}/echo", "--seconds", "1", "-d", '{"a": 1}', "-H", "Authorization: secret", "-X", "post", code=0
    )
    assert report.levels["status"] == "ok"
    assert report.levels["format"] == "ok"
    assert "secret" not in str(report.findings)


def test_the_report_for_people(address: str) -> None:
    host = address.removeprefix("http://")
    result = run("doctor", f"http://me:secret@{host}/echo", "--seconds", "1")
    assert result.returncode == 0, result
    assert "! warning  cache-control" in result.stdout
    assert "\\u009b31m" in result.stdout
    assert "\x9b" not in result.stdout
    assert "1 warning." in result.stdout
    assert "secret" not in result.stdout
    assert f"http://{host}/echo" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["localhost:8000/events"], "http://"),
        (["http:///events"], "host"),
        (["http://127.0.0.1:port/"], "no URL"),
        (["http://127.0.0.1/", "-H", "Authorization secret"], "'NAME: VALUE'"),
        (["http://127.0.0.1/", "-H", "Bad name: secret"], "'Bad name'"),
        (["http://127.0.0.1/", "-H", "X-Token: secret\r\nHost: other"], "'X-Token'"),
        (["http://127.0.0.1/", "-H", "X-Token: secret", "-H", "x-token: secret"], "twice"),
        (["http://127.0.0.1/", "-X", "GET /"], "-X"),
        (["http://127.0.0.1/", "-d", "@/no/such/file"], "'/no/such/file'"),
        (["http://127.0.0.1/", "--seconds", "0"], "--seconds"),
        (["http://127.0.0.1/", "--origin", "https://app.example/"], "--origin"),
    ],
)
def test_wrong_options_are_refused(arguments: list[str], word: str) -> None:
    result = run("doctor", *arguments)
    assert result.returncode == 2, result
    assert result.stdout == ""
    assert word in result.stderr
    assert "secret" not in result.stderr
    assert "Traceback" not in result.stderr


def test_a_closed_pipe_is_no_error(address: str) -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        result = run(
            "doctor", f"{address}/missing", "--json", capture_output=False, stdout=write, stderr=subprocess.PIPE
        )
    finally:
        os.close(write)
    assert (result.returncode, result.stderr) == (0, "")


def test_it_can_be_interrupted(server: Server, address: str) -> None:
    with start("doctor", f"{address}/numbers?interrupted", "--seconds", "60") as process:
        try:
            wait_until(lambda: "GET /numbers?interrupted" in server.log, what="it watches")
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=DEADLINE)
        finally:
            process.kill()
    assert process.returncode == 130
    assert b"Traceback" not in errors

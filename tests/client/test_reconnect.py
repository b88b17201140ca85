"""The decisions of an event source, driven by a table: answers in, steps out. Time and chance are the test's."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from tidings.client.reconnect import (
    INTERRUPTED,
    Connect,
    Deliver,
    Head,
    Lost,
    Opened,
    Position,
    Read,
    Reconnecting,
    Wait,
    reconnecting,
    retry_after_seconds,
)
from tidings.errors import ConnectionFailed, ContentTypeError, EventTooLarge, StatusError
from tidings.wire import ReceivedEvent

URL = "http://desk.example/news"
OK = Head(200, "text/event-stream")
GONE = Lost(OSError("gone"))


@dataclass
class Run:
    """Drives the generator: what a step is answered with stands in the answers, waiting passes the time.

    Attributes:
        connects: the headers of each attempt.
        events: what was delivered.
        delays: before each attempt but the first.
        errors: why each of them was needed.
        waited: the sum of all waits.
    """

    answers: Sequence[Any]
    chance: float = 0.0
    last_event_id: str = ""
    retry: float = 1.0
    max_attempts: int | None = 10
    max_event_size: int = 1000
    now: float = 1000.0
    connects: list[Any] = field(default_factory=list)
    events: list[ReceivedEvent] = field(default_factory=list)
    delays: list[float] = field(default_factory=list)
    errors: list[Exception | None] = field(default_factory=list)
    open: list[bool] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.position = Position(self.last_event_id, self.retry)
        self.steps: Generator[Any, Any, None] = reconnecting(
            self.position,
            url=URL,
            max_attempts=self.max_attempts,
            max_event_size=self.max_event_size,
            clock=lambda: self.now,
            random=lambda: self.chance,
        )

    def play(self) -> Run:
        """Until there are no more answers, or no more steps."""
        answers = iter(self.answers)
        answer: Any = None
        while True:
            try:
                step = self.steps.send(answer)
            except StopIteration:
                return self
            answer = None
            self.open.append(self.position.open)
            match step:
                case Connect(headers):
                    self.connects.append(headers)
                    answer = next(answers, None)
                case Read():
                    answer = next(answers, None)
                case Deliver(events):
                    self.events.extend(events)
                    continue
                case Reconnecting(error, delay):
                    self.errors.append(error)
                    self.delays.append(delay)
                    continue
                case Wait(seconds):
                    self.now += seconds
                    continue
                case Opened():
                    continue
            if answer is None:
                return self

    @property
    def last_event_ids(self) -> list[Any]:
        return [headers.get("last-event-id") for headers in self.connects]


# -- the delay --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("retry", "chance", "delays"),
    [
        (1.0, 0.0, [2, 4, 8, 16, 30, 30, 30, 30, 30]),
        (1.0, 1.0, [3, 6, 12, 24, 45, 45, 45, 45, 45]),
        (1.0, 0.5, [2.5, 5, 10, 20, 37.5, 37.5, 37.5, 37.5, 37.5]),
        (0.001, 0.0, [0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512]),
        (0.0, 1.0, [0] * 9),
        (20.0, 0.0, [30] * 9),
        (60.0, 0.0, [60] * 9),
        (60.0, 1.0, [90] * 9),
    ],
)
def test_the_delay_doubles_with_each_failure_in_a_row(retry: float, chance: float, delays: list[float]) -> None:
    run = Run([GONE] * 10, retry=retry, chance=chance)
    with pytest.raises(ConnectionFailed):
        run.play()
    assert run.delays == pytest.approx(delays)
    assert run.now == pytest.approx(1000 + sum(delays)), "it waits as long as it said"


def test_a_response_that_opens_ends_the_row() -> None:
    run = Run([GONE, GONE, OK, GONE, GONE, OK, Lost(), OK, Lost(), Head(503)]).play()
    assert run.delays == [2, 4, 1, 2, 1, 1, 2]


def test_the_growth_never_overflows() -> None:
    run = Run([GONE] * 3000, max_attempts=None).play()
    assert run.delays[-1] == 30
    assert len(run.connects) == 3001


def test_what_the_server_says_is_where_the_growth_begins() -> None:
    run = Run([OK, b"retry: 250\n\n", GONE, GONE, OK, b"retry: 40000\n\n", GONE, GONE]).play()
    assert run.delays == [0.25, 0.5, 40, 40]
    assert run.position.retry == 40


def test_a_time_in_an_event_that_was_not_finished_counts_as_a_browser_has_it() -> None:
    """ "set the event stream's reconnection time", when the line is read; the blank line is for events."""
    assert Run([OK, b"retry: 9000\ndata: unfin", GONE]).play().delays == [9]


@pytest.mark.parametrize(
    ("head", "delay"),
    [
        (Head(503, retry_after=120.0), 120),
        (Head(429, retry_after=120.0), 120),
        (Head(502, retry_after=120.0), 120),
        (Head(504, retry_after=120.0), 120),
        (Head(503, retry_after=1.0), 2),
        (Head(503), 2),
        (Head(503, retry_after=1e9), 86_400),
    ],
)
def test_retry_after_is_a_minimum_for_the_next_attempt_alone(head: Head, delay: float) -> None:
    assert Run([head, GONE]).play().delays == [delay, 4]


@pytest.mark.parametrize("digits", [20, 400])
def test_a_time_of_the_server_is_bounded_by_a_day(digits: int) -> None:
    run = Run([OK, b"retry: " + b"9" * digits + b"\n\n", Lost()]).play()
    assert run.delays == [86_400]


# -- endings ----------------------------------------------------------------------------------------------------------

RETRIED = {429, 502, 503, 504}


@pytest.mark.parametrize("status", [*range(200, 600), 0, 600, 999])
def test_every_status(status: int) -> None:
    run = Run([Head(status, "text/event-stream")])
    if status == 204:
        run.play()
        assert run.steps.gi_frame is None, "it is over"  # type: ignore[attr-defined]
    elif status == 200:
        run.play()
        assert run.open[-1]
    elif status in RETRIED:
        run.play()
        [error] = run.errors
        assert isinstance(error, StatusError)
        assert error.status == status
    else:
        with pytest.raises(StatusError, match=f"^{URL} answered {status}") as caught:
            run.play()
        assert caught.value.status == status


@pytest.mark.parametrize("most", [1, 2, 3, 10])
def test_it_gives_up_after_so_many_failures_in_a_row(most: int) -> None:
    failures = [GONE, Head(503)] * 5
    cause = OSError("the last one")
    row = failures[: most - 1]
    run = Run([*row, OK, Lost(), *row, Lost(cause)], max_attempts=most)
    with pytest.raises(ConnectionFailed, match="only attempt" if most == 1 else f"{most} attempts") as caught:
        run.play()
    assert caught.value.__cause__ is cause
    assert len(run.connects) == 2 * most


@pytest.mark.parametrize(
    "content_type", ["text/event-stream", "Text/Event-Stream;charset=x", " text/event-stream ; a", "text/event-stream;"]
)
def test_content_types_of_an_event_stream(content_type: str) -> None:
    assert Run([Head(200, content_type)]).play().open[-1]


@pytest.mark.parametrize("content_type", ["", "text/html", "text/event-streams", "text/event-stream, text/html"])
def test_other_content_types(content_type: str) -> None:
    with pytest.raises(ContentTypeError):
        Run([Head(200, content_type)]).play()


def test_an_event_over_the_bound_comes_after_those_before_it() -> None:
    run = Run([OK, b"id: 1\ndata: one\n\nid: 2\ndata: " + b"x" * 50], max_event_size=40)
    with pytest.raises(EventTooLarge):
        run.play()
    assert run.events == [ReceivedEvent("message", "one", "1")]


# -- positions --------------------------------------------------------------------------------------------------------


def test_the_first_request() -> None:
    [headers] = Run([]).play().connects
    assert headers == {"accept": "text/event-stream", "cache-control": "no-store", "accept-encoding": "identity"}


@pytest.mark.parametrize(
    ("begin", "answers", "sent"),
    [
        ("", [GONE], [None, None]),
        ("7", [GONE, OK, Lost()], [b"7", b"7", b"7"]),
        ("é", [], ["é".encode()]),
        ("", [OK, b"id: 1\n\n", Lost(), GONE, OK, b"data: x\n\n", Lost()], [None, b"1", b"1", b"1"]),
        ("7", [OK, b"id\n\n", Lost()], [b"7", None]),
        ("7", [OK, b"id: 8\ndata: unfinished\n", Lost()], [b"7", b"7"]),
        ("7", [OK, b"id: 8\n", b"\n", Lost()], [b"7", b"8"]),
        ("", [OK, b"id:  two \t\n\n", Lost()], [None, b"two"]),
    ],
)
def test_the_last_event_id_of_each_request(begin: str, answers: list[Any], sent: list[bytes | None]) -> None:
    assert Run(answers, last_event_id=begin).play().last_event_ids == sent


def test_each_response_has_a_decoder_of_its_own() -> None:
    run = Run([OK, b"\xef\xbb\xbfdata: 1\n\nevent: x\ndata: y", Lost(), OK, b"\xef\xbb\xbfdata: 2\n\n"]).play()
    assert run.events == [ReceivedEvent("message", "1", ""), ReceivedEvent("message", "2", "")]


def test_it_is_open_from_the_head_to_the_end_of_the_stream() -> None:
    run = Run([GONE, OK, b"data: x\n\n", Lost()]).play()
    # Connect, Reconnecting, Wait, Connect | Opened, Read, Deliver, Read | Reconnecting, Wait, Connect
    assert run.open == [*[False] * 4, *[True] * 4, *[False] * 3]


# -- interruptions ----------------------------------------------------------------------------------------------------


def test_an_interrupted_attempt_is_no_failure() -> None:
    run = Run([INTERRUPTED, INTERRUPTED, OK], max_attempts=1).play()
    assert run.errors == [None, None]
    assert run.delays == [1, 1]


def test_an_interrupted_read_connects_again_from_the_last_event() -> None:
    run = Run([OK, b"id: 1\ndata: x\n\nid: 2\ndata: unfin", INTERRUPTED, OK]).play()
    assert run.last_event_ids == [None, b"1"]


def test_an_interrupted_wait_goes_on_until_its_time() -> None:
    run = Run([])
    assert isinstance(run.steps.send(None), Connect)
    assert run.steps.send(GONE) == Reconnecting(GONE.error, 2)
    assert run.steps.send(None) == Wait(2)
    run.now += 0.5
    assert run.steps.send(INTERRUPTED) == Wait(1.5)
    run.now += 1.5
    assert isinstance(run.steps.send(INTERRUPTED), Connect)


# -- Retry-After ------------------------------------------------------------------------------------------------------

NOW = 784_111_777.0  # Sun, 06 Nov 1994 08:49:37 GMT


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0),
        ("120", 120),
        (" 120 ", 120),
        ("9" * 400, 86_400),
        ("Sun, 06 Nov 1994 08:49:47 GMT", 10),
        ("Sunday, 06-Nov-94 08:49:47 GMT", 10),
        ("Sun Nov  6 08:49:47 1994", 10),
        ("Sun, 06 Nov 1994 08:49:47 -0000", 10),
        ("Sun, 06 Nov 1994 08:49:27 GMT", 0),
        *((value, 0) for value in (None, "", "-1", "1.5", "1e3", "soon", "Sun, 99 Nov 1994", "\N{SUPERSCRIPT TWO}")),
        ("Sun, 06 Nov 1994 08:49:47 +9999", 0),
        ("Sun, 06 Nov 99999999999 08:49:47 GMT", 0),
    ],
)
def test_retry_after(value: str | None, seconds: float) -> None:
    assert retry_after_seconds(value, NOW) == seconds

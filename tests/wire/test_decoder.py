from __future__ import annotations

import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest
from fuzz.reference import interpret
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from tidings.errors import EventTooLarge, TidingsError
from tidings.wire import EventDecoder, ReceivedEvent

from .cases import DECODE, Case, check_decoding, decode
from .strategies import blocks, chunkings, properties, streams

FUZZ_TARGET = Path(__file__).parents[2] / "fuzz" / "decoder.py"


@pytest.mark.parametrize("case", DECODE, ids=str)
def test_a_stream_is_decoded_however_it_is_cut(case: Case):
    check_decoding(case)


@pytest.mark.parametrize("case", DECODE, ids=str)
def test_the_reference_agrees_with_the_table(case: Case):
    result = interpret(case.stream)

    assert (result.events, result.last_event_id, result.retry) == (case.events, case.last_event_id, case.retry)


# -- properties -------------------------------------------------------------------------------------------------------


@properties
@given(streams() | blocks(), st.data())
def test_any_stream_cut_anywhere_is_decoded_as_the_standard_says(stream: bytes, data: st.DataObject):
    chunks = data.draw(chunkings(stream))
    expected = interpret(stream)

    assert decode(chunks) == (expected.events, expected.last_event_id, expected.retry)


@properties
@given(st.binary(max_size=100), st.data())
def test_any_bytes_cut_anywhere_are_decoded_as_the_standard_says(stream: bytes, data: st.DataObject):
    chunks = data.draw(chunkings(stream))
    expected = interpret(stream)

    assert decode(chunks) == (expected.events, expected.last_event_id, expected.retry)


@properties
@given(streams() | blocks(), st.data(), st.integers(min_value=0, max_value=40))
@example(b"retry: 5\n\n", None, 7)  # the line is over the bound by its last byte: it must not take effect first
def test_whether_an_event_is_too_large_does_not_depend_on_the_chunks(
    stream: bytes, data: st.DataObject | None, limit: int
):
    chunks = data.draw(chunkings(stream)) if data else [stream[i : i + 1] for i in range(len(stream))]

    assert decode_bounded(chunks, limit) == decode_bounded([stream], limit)


def decode_bounded(chunks: list[bytes], limit: int) -> tuple[list[ReceivedEvent], bool, str, int | None]:
    decoder = EventDecoder(limit)
    events: list[ReceivedEvent] = []
    too_large = False
    try:
        for chunk in chunks:
            events += decoder.feed(chunk)
    except EventTooLarge as error:
        events += error.events
        too_large = True
    return events, too_large, decoder.last_event_id, decoder.retry


def test_the_fuzz_target_runs():
    command = [sys.executable, "-W", "error", str(FUZZ_TARGET), "--runs", "1000", "--seed", "1"]

    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "1000 inputs, seed 1: the invariant held\n"


def test_the_fuzz_target_says_how_to_get_atheris():
    script = f"""
import runpy, sys
sys.modules["atheris"] = None  # as if it weren't installed
sys.path.insert(0, {str(FUZZ_TARGET.parent)!r})
runpy.run_path({str(FUZZ_TARGET)!r}, run_name="__main__")
"""
    command = [sys.executable, "-c", script]

    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 1
    assert "pip install atheris" in done.stderr
    assert "Traceback" not in done.stderr


# -- feeding ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_a_chunk_may_be_of_any_bytes_type(kind: type):
    assert EventDecoder().feed(kind(b"data: \xc3\xa9\n\n")) == [("message", "é", "")]


def test_a_chunk_may_be_a_part_of_a_larger_buffer():
    buffer = memoryview(b"xxdata: a\n\nxx")

    assert EventDecoder().feed(buffer[2:-2]) == [("message", "a", "")]


def test_a_buffer_may_be_used_again_after_it_was_fed():
    decoder = EventDecoder()
    buffer = bytearray(b"data: ab")

    decoder.feed(buffer)
    buffer[:] = b"!!!!!!!!"

    assert decoder.feed(b"c\n\n") == [("message", "abc", "")]


def test_text_is_refused():
    with pytest.raises(TypeError):
        EventDecoder().feed("data: a\n\n")  # type: ignore[arg-type]


def test_an_event_is_returned_by_the_feed_that_completes_it():
    decoder = EventDecoder()

    assert decoder.feed(b"data: a\n") == []
    assert decoder.feed(b"\ndata: b\n\ndata: c") == [("message", "a", ""), ("message", "b", "")]
    assert decoder.feed(b"\n\n") == [("message", "c", "")]


def test_an_event_that_ends_with_a_cr_is_not_held_back_for_the_lf():
    decoder = EventDecoder()

    assert decoder.feed(b"data: a\r\n\r") == [("message", "a", "")]
    assert decoder.feed(b"\ndata: b\r\n\r") == [("message", "b", "")]


def test_an_empty_chunk_between_cr_and_lf_changes_nothing():
    decoder = EventDecoder()

    chunks = [b"data: a\r", b"", b"\n", b"", b"data: b\r", b"", b"\n\r\n"]

    assert [event for chunk in chunks for event in decoder.feed(chunk)] == [("message", "a\nb", "")]


def test_nothing_is_known_before_the_first_byte():
    decoder = EventDecoder()

    assert decoder.last_event_id == ""
    assert decoder.retry is None


def test_the_last_event_id_changes_at_the_blank_line():
    decoder = EventDecoder()

    decoder.feed(b"id: 1\ndata: a\n")
    assert decoder.last_event_id == ""
    decoder.feed(b"\n")
    assert decoder.last_event_id == "1"
    decoder.feed(b"id: 2\n")
    assert decoder.last_event_id == "1"
    decoder.feed(b"\n")
    assert decoder.last_event_id == "2"


def test_the_retry_changes_with_its_line():
    decoder = EventDecoder()

    decoder.feed(b"retry: 20")
    assert decoder.retry is None
    decoder.feed(b"\n")
    assert decoder.retry == 20


# -- the bound --------------------------------------------------------------------------------------------------------


def test_an_event_as_large_as_the_bound_passes():
    assert EventDecoder(10).feed(b"data: 1234\n\n") == [("message", "1234", "")]


def test_an_event_larger_than_the_bound_is_an_error():
    with pytest.raises(EventTooLarge, match="max_event_size=9 bytes") as caught:
        EventDecoder(9).feed(b"data: 1234\n\n")

    assert isinstance(caught.value, TidingsError)
    assert caught.value.limit == 9
    assert caught.value.events == []


def test_the_bound_is_one_mebibyte_by_default():
    largest = b"data: " + b"x" * (1_048_576 - 6) + b"\n\n"
    [event] = EventDecoder().feed(largest)
    assert len(event.data) == 1_048_570

    with pytest.raises(EventTooLarge):
        EventDecoder().feed(b"x" + largest)


def test_the_bound_holds_for_a_line_without_an_end():
    decoder = EventDecoder(10)

    decoder.feed(b"data: 1234")
    with pytest.raises(EventTooLarge):
        decoder.feed(b"5")


def test_the_bound_holds_for_all_lines_of_an_event_together():
    decoder = EventDecoder(20)

    decoder.feed(b"event: abc\ndata: 1234\n")  # 10 bytes each
    with pytest.raises(EventTooLarge):
        decoder.feed(b"d")


def test_line_ends_are_not_held():
    assert EventDecoder(20).feed(b"event: abc\r\ndata: 1234\r\n\r\n") == [("abc", "1234", "")]


def test_the_bound_is_in_bytes_not_in_characters():
    assert EventDecoder(10).feed("data: éé\n\n".encode()) == [("message", "éé", "")]
    with pytest.raises(EventTooLarge):
        EventDecoder(9).feed("data: éé\n\n".encode())


def test_a_byte_that_is_no_utf8_counts_as_one():
    assert EventDecoder(10).feed(b"data: \xff\xff\xff\xff\n\n") == [("message", 4 * "\ufffd", "")]


def test_every_field_of_an_event_counts():
    for field in (b"event: x", b"id: 1234", b"retry: 1", b"other: x", b"nothing!"):
        with pytest.raises(EventTooLarge):
            EventDecoder(17).feed(b"data: 1234\n" + field + b"\n")


def test_events_do_not_add_up():
    assert len(EventDecoder(10).feed(b"data: 1234\n\n" * 1000)) == 1000


def test_blocks_without_data_do_not_add_up():
    decoder = EventDecoder(10)

    assert decoder.feed(b"id: 123456\n\n" * 1000) == []
    assert decoder.last_event_id == "123456"


def test_a_chunk_may_be_larger_than_the_bound():
    chunk = b"data: 1234\n\n" * 10 + b"data: 5"

    assert len(EventDecoder(10).feed(chunk)) == 10


@pytest.mark.parametrize(
    "large",
    [b"data: 123456\n\n", b"event: x\nid: 1\ndata: 1\n\n", b"data: 1\ndata: 1\n\n", b"id: 1234567\n\n", b"data: 12345"],
    ids=str,
)
@pytest.mark.parametrize("before", [b"", b"x", b":"], ids=["in the chunk", "begun before it", "in a comment before it"])
def test_the_bound_holds_for_each_event_of_a_chunk(before: bytes, large: bytes):
    decoder = EventDecoder(10)
    decoder.feed(before)

    with pytest.raises(EventTooLarge) as caught:
        decoder.feed(b"\n\ndata: 1\n\ndata: 2\n\n" + large)

    assert caught.value.events == [("message", "1", ""), ("message", "2", "")]


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_comments_do_not_count(size: int):
    stream = b"data: 1\n:" + b"c" * 999 + b"\n:" + b"d" * 999 + b"\ndata: 2\n\n:" + b"e" * 999
    decoder = EventDecoder(14)

    events = [event for i in range(0, len(stream), size) for event in decoder.feed(stream[i : i + size])]

    assert events == [("message", "1\n2", "")]


def test_an_endless_comment_takes_no_memory():
    decoder = EventDecoder()
    chunk = b"c" * 1024
    decoder.feed(b":")

    with tracing():
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(1000):
            decoder.feed(chunk)
        assert tracemalloc.get_traced_memory()[0] - before < 2048


def test_the_events_before_the_large_one_are_in_the_error():
    decoder = EventDecoder(12)
    assert decoder.feed(b"data: 0\n\n") == [("message", "0", "")]

    with pytest.raises(EventTooLarge) as caught:
        decoder.feed(b"id: 1\ndata\n\nevent: x\ndata\n\ndata: 1234567")

    assert caught.value.events == [("message", "", "1"), ("x", "", "1")]
    assert decoder.last_event_id == "1"


def test_a_decoder_that_met_a_large_event_is_of_no_use():
    decoder = EventDecoder(10)
    with pytest.raises(EventTooLarge):
        decoder.feed(b"data: 12345")

    for chunk in (b"", b"\n\n", b"data: a\n\n"):
        with pytest.raises(RuntimeError, match="use a new one"):
            decoder.feed(chunk)


def test_a_line_that_breaks_the_bound_takes_no_effect():
    for start, end in ((b"", b"retry: 5\n"), (b"retry: ", b"5\n"), (b"retry", b": 5")):
        decoder = EventDecoder(7)
        decoder.feed(start)
        with pytest.raises(EventTooLarge):
            decoder.feed(end)
        assert decoder.retry is None


# -- cost -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "chunk"),
    [
        pytest.param(b"data: ", b"x" * 1024, id="one line"),
        pytest.param(b"data: \xc3\xa9", b"x" * 1023 + b"\xff", id="one line that is not ASCII"),
        pytest.param(b"", b"data: " + b"x" * 1017 + b"\n", id="many lines"),
        pytest.param(b"", b"data: " + b"x" * 1017 + b"\r", id="many lines that end in CR"),
        pytest.param(b"data: ", b"x" * 512 + b"\ndata: " + b"x" * 505, id="many lines, each of two chunks"),
    ],
)
def test_a_chunk_of_a_huge_event_costs_no_more_than_the_first_one_did(first: bytes, chunk: bytes):
    """A decoder that joined what it holds, or looked through it again, at each feed would be quadratic.

    What a feed allocates on its way shows it without a clock: it stays as it was while the event grows to 4 MiB.
    """
    decoder = EventDecoder(max_event_size=8 * 1024 * 1024)
    decoder.feed(first)

    with tracing():
        for _ in range(4096):
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            assert decoder.feed(chunk) == []
            assert tracemalloc.get_traced_memory()[1] - before < 16 * len(chunk)

    [event] = decoder.feed(b"\n\n")
    assert len(event.data) > 4096 * 1000


@pytest.mark.parametrize("line", [b"\n", b"\r\n", b":\n", b"a\n", b"data\n", b"data:\n", b"data:\n\n"], ids=repr)
def test_what_a_chunk_costs_grows_with_its_size_and_not_with_the_number_of_its_lines(line: bytes):
    """An expression that noted each line, in case it had to go back to it, would take a hundred times the text."""
    decoder = EventDecoder()
    chunk = line * ((1 << 18) // len(line))
    decoder.feed(b"\n")

    with tracing():
        decoder.feed(chunk)
        assert tracemalloc.get_traced_memory()[1] < 32 * len(chunk)


class tracing:  # noqa: N801 - used as a function
    def __enter__(self) -> None:
        tracemalloc.start()

    def __exit__(self, *_: object) -> None:
        tracemalloc.stop()


# -- what is received -------------------------------------------------------------------------------------------------


class Reading(BaseModel):
    metres: float


def test_a_received_event_has_names_for_its_fields():
    [event] = EventDecoder().feed(b"id: 1\nevent: x\ndata: a\n\n")

    assert isinstance(event, ReceivedEvent)
    assert (event.event, event.data, event.id) == ("x", "a", "1")
    assert repr(event) == "ReceivedEvent(event='x', data='a', id='1')"
    assert event == ReceivedEvent("x", "a", "1")


def test_a_received_event_can_not_be_changed():
    event = ReceivedEvent("message", "a", "")

    with pytest.raises(AttributeError):
        event.data = "b"  # type: ignore[misc]


def test_the_data_is_read_as_json():
    assert ReceivedEvent("message", '{"metres":\n1.5}', "").json() == {"metres": 1.5}
    assert ReceivedEvent("message", "null", "").json() is None


def test_data_that_is_no_json_is_a_value_error():
    with pytest.raises(ValueError):
        ReceivedEvent("message", "hello", "").json()


def test_the_data_is_parsed_as_a_model():
    assert ReceivedEvent("message", '{"metres":"1.5"}', "").parse(Reading) == Reading(metres=1.5)


def test_the_data_is_parsed_as_any_type_that_pydantic_knows():
    assert ReceivedEvent("message", '["1",2]', "").parse(list[int]) == [1, 2]


@pytest.mark.parametrize("data", ['{"metres":"deep"}', "{}", "hello", ""])
def test_data_that_does_not_fit_the_model_is_a_validation_error(data: str):
    with pytest.raises(ValidationError):
        ReceivedEvent("message", data, "").parse(Reading)

from __future__ import annotations

import copy
import pickle
from dataclasses import FrozenInstanceError, fields, replace
from typing import Any

import pytest

from tidings.wire import ServerSentEvent


def test_nothing_is_set_by_default():
    event = ServerSentEvent()

    assert [getattr(event, field.name) for field in fields(event)] == [None] * 6


def test_the_fields_come_in_the_documented_order():
    assert ServerSentEvent(None, "a", "b", "c", 4, "d") == ServerSentEvent(
        raw_data="a", event="b", id="c", retry=4, comment="d"
    )
    assert ServerSentEvent(1).data == 1


# -- bad input --------------------------------------------------------------------------------------------------------

BREAKS = ["\n", "\r", "\r\n", "a\nb", "a\rb", "a\r\nb", "\na", "a\r"]


@pytest.mark.parametrize("data", [1, 0, "", False, [], {}, "text"], ids=repr)
def test_data_and_raw_data_together_are_refused(data: Any):
    with pytest.raises(ValueError, match="Cannot set both 'data' and 'raw_data'"):
        ServerSentEvent(data=data, raw_data="")


@pytest.mark.parametrize("name", BREAKS, ids=repr)
def test_a_line_break_in_the_name_is_refused(name: str):
    with pytest.raises(ValueError, match="SSE 'event' must be a single line"):
        ServerSentEvent(event=name)


@pytest.mark.parametrize("id", BREAKS, ids=repr)
def test_a_line_break_in_the_id_is_refused(id: str):
    with pytest.raises(ValueError, match="SSE 'id' must be a single line"):
        ServerSentEvent(id=id)


@pytest.mark.parametrize("id", ["\0", "a\0", "\0a", "a\0b"], ids=repr)
def test_a_nul_in_the_id_is_refused(id: str):
    with pytest.raises(ValueError, match="SSE 'id' must not contain null characters"):
        ServerSentEvent(id=id)


@pytest.mark.parametrize("retry", [-1, -(10**40), 1.0, 1.5, "100", True, False, float("nan"), [], b"1"], ids=repr)
def test_a_retry_that_is_no_whole_number_of_milliseconds_is_refused(retry: Any):
    with pytest.raises(ValueError, match="SSE 'retry' must be a non-negative integer"):
        ServerSentEvent(retry=retry)


@pytest.mark.parametrize("value", [1, b"a", 1.5, ["a"], True], ids=repr)
@pytest.mark.parametrize("field", ["raw_data", "event", "comment"])
def test_text_of_another_type_is_refused(field: str, value: Any):
    with pytest.raises(TypeError, match=f"SSE '{field}' must be a str, not {type(value).__name__}"):
        ServerSentEvent(**{field: value})


@pytest.mark.parametrize("id", [b"a", 1.5, True, False, ["a"]], ids=repr)
def test_an_id_of_another_type_is_refused(id: Any):
    with pytest.raises(TypeError, match=f"SSE 'id' must be a str or an int, not {type(id).__name__}"):
        ServerSentEvent(id=id)


def test_the_error_shows_no_more_than_the_beginning_of_a_long_text():
    with pytest.raises(ValueError) as caught:
        ServerSentEvent(event="x" * 10_000 + "\n")

    assert len(str(caught.value)) < 200


# -- what is taken ----------------------------------------------------------------------------------------------------


def test_what_is_no_line_end_of_the_format_may_be_in_a_name_and_an_id():
    odd = "\v\f\x1c\x1d\x1e\x85\u2028\u2029"

    event = ServerSentEvent(event=odd, id=odd)

    assert (event.event, event.id) == (odd, odd)


def test_line_breaks_may_be_in_raw_data_and_comments():
    event = ServerSentEvent(raw_data="a\r\nb", comment="c\nd\r")

    assert (event.raw_data, event.comment) == ("a\r\nb", "c\nd\r")


def test_a_nul_may_be_in_a_name():
    assert ServerSentEvent(event="a\0b").event == "a\0b"


@pytest.mark.parametrize(("given", "id"), [(7, "7"), (0, "0"), (-3, "-3"), (10**40, "1" + "0" * 40)])
def test_an_int_is_taken_as_its_decimal_text(given: int, id: str):
    assert ServerSentEvent(id=given).id == id


def test_empty_texts_are_kept():
    event = ServerSentEvent(raw_data="", event="", id="", comment="")

    assert (event.raw_data, event.event, event.id, event.comment) == ("", "", "", "")


def test_a_retry_of_zero_is_kept():
    assert ServerSentEvent(retry=0).retry == 0


# -- a value ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", [field.name for field in fields(ServerSentEvent)])
def test_a_field_can_not_be_changed(field: str):
    event = ServerSentEvent(data=1)

    with pytest.raises(FrozenInstanceError):
        setattr(event, field, None)
    with pytest.raises(FrozenInstanceError):
        delattr(event, field)


def test_there_is_room_for_its_fields_only():
    event = ServerSentEvent(data=1)

    assert not hasattr(event, "__dict__")
    with pytest.raises((FrozenInstanceError, TypeError, AttributeError)):
        event.other = 1  # type: ignore[attr-defined]


def test_equal_fields_make_equal_events():
    assert ServerSentEvent(data={"a": 1}, id=1) == ServerSentEvent(data={"a": 1}, id="1")
    assert ServerSentEvent(data=1) != ServerSentEvent(raw_data="1")
    assert ServerSentEvent(id="") != ServerSentEvent()


def test_events_with_hashable_data_are_hashable():
    assert len({ServerSentEvent(data="a"), ServerSentEvent(data="a"), ServerSentEvent(raw_data="a")}) == 2


def test_the_repr_can_be_evaluated():
    event = ServerSentEvent(data=["a"], event="b", id="c", retry=4, comment="d")

    assert repr(event) == ("ServerSentEvent(data=['a'], raw_data=None, event='b', id='c', retry=4, comment='d')")
    assert eval(repr(event)) == event


def test_a_copy_with_a_change_is_checked_too():
    event = ServerSentEvent(data=1, event="a")

    assert replace(event, id=5) == ServerSentEvent(data=1, event="a", id="5")
    with pytest.raises(ValueError, match="SSE 'id'"):
        replace(event, id="a\n")


def test_events_are_copied_and_pickled():
    event = ServerSentEvent(data={"a": [1]}, event="b", id="c", retry=4, comment="d")

    assert copy.deepcopy(event) == event
    assert copy.copy(event) == event
    assert pickle.loads(pickle.dumps(event)) == event


def test_events_match_patterns():
    match ServerSentEvent(data=1, event="a"):
        case ServerSentEvent(data=data, event="a"):
            assert data == 1
        case _:
            pytest.fail("no match")

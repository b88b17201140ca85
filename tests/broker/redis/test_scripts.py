"""Each script by itself: what it answers, and what the server holds then."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from tests.broker.redis_server import RedisServer
from tests.servers.servers import wait_until
from tidings.broker.draft import check_channel
from tidings.broker.entry import Kind
from tidings.broker.redis.keys import Keys
from tidings.broker.redis.server import Script

PAGE = (500, 65_536)
"""Entries and bytes that a page holds."""


class Log:
    """The log of a namespace, by its scripts alone."""

    def __init__(self, server: RedisServer, namespace: str) -> None:
        self.client = server.client
        self.keys = Keys(namespace, 0)

    def run(self, name: str, keys: list[str], *arguments: object) -> Any:
        return self.client.eval(Script(name).text, len(keys), *keys, *arguments)

    def append(
        self,
        channel: str = "news",
        frame: tuple[bytes, bytes] = (b"data: x\n", b"\n"),
        kind: Kind = Kind.RAW,
        history: int = -1,
        max_age: int = -1,
        known: tuple[str, int] = ("", 0),
        new_epoch: str = "first",
    ) -> tuple[str, int]:
        epoch, sequences, failures = self.append_all(
            (channel, kind, *frame), history=history, max_age=max_age, known=known, new_epoch=new_epoch
        )
        assert not failures
        return epoch, sequences[0]

    def append_all(
        self,
        *entries: tuple[str, Kind, bytes, bytes],
        history: int = -1,
        max_age: int = -1,
        known: tuple[str, int] = ("", 0),
        new_epoch: str = "first",
    ) -> tuple[str, list[int], list[str]]:
        """In one call. Returns the epoch, the sequences, and why some have none."""
        channels = list(dict.fromkeys(entry[0] for entry in entries))
        log, *pairs = self._pairs(channels)
        content = [part for name, kind, *frame in entries for part in (channels.index(name) + 1, int(kind), *frame)]
        names = [log, self.keys.ages, self.keys.names, *pairs]
        arguments = (history, max_age, *known, new_epoch, self.keys.database, len(channels), *channels, *content)
        epoch, _, sequences, *failures = self.run("append", names, *arguments)
        return epoch.decode(), [int(sequence) for sequence in sequences.split()], [why.decode() for why in failures]

    def fill(self, count: int, channel: str = "news", **options: Any) -> list[int]:
        return [self.append(channel, **options)[1] for _ in range(count)]

    def finish(self, channel: str = "news") -> tuple[str, int]:
        return self.append(channel, (b"", b""), Kind.FINISH)

    def page(
        self,
        *channels: str,
        after: int | str = 0,
        history: int = -1,
        max_age: int = -1,
        known: tuple[str, int] = ("", 0),
        new_epoch: str = "first",
    ) -> tuple[str, int, int, list[Any]]:
        names = self._pairs(channels)
        found = self.run("page", names, after, history, max_age, *PAGE, *known, new_epoch)
        return found[0].decode(), int(found[1]), int(found[2]), found[3]

    def shown(self, *channels: str, **options: Any) -> list[list[int]]:
        """The sequences on a page, for each channel."""
        return [
            [int(id.split(b"-")[0]) for id in found[3].split()[::4]] for found in self.page(*channels, **options)[3]
        ]

    def listed(self, *channels: str, history: int = -1, max_age: int = -1) -> list[Any]:
        epoch, found = self.run("list", self._pairs(channels), history, max_age)
        assert epoch == b"first"
        return list(found)

    def forget(self, channel: str, age: int) -> int:
        keys = self.keys
        names = [keys.log, keys.state(channel), keys.stream(channel), keys.ages, keys.names]
        return int(self.run("forget", names, channel, age))

    def state(self, channel: str = "news") -> dict[str, int]:
        return {name.decode(): int(value) for name, value in self.client.hgetall(self.keys.state(channel)).items()}

    def stored(self, channel: str = "news") -> list[int]:
        return [int(id.split(b"-")[0]) for id, _ in self.client.xrange(self.keys.stream(channel))]

    def ttl(self, channel: str = "news") -> int:
        return int(self.client.pttl(self.keys.stream(channel)))

    def set(self, **values: int) -> None:
        self.client.hset(self.keys.log, mapping=values)

    def _pairs(self, channels: Sequence[str]) -> list[str]:
        keys = self.keys
        return [keys.log, *(key for name in channels for key in (keys.state(name), keys.stream(name)))]

    def told(self, *channels: str) -> Callable[[], list[bytes]]:
        """Listen from now on; what is returned says what was heard."""
        listener = self.client.pubsub()
        listener.subscribe(*map(self.keys.topic, channels))
        for _ in channels:
            assert listener.get_message(timeout=10)["type"] == "subscribe"

        def heard() -> list[bytes]:
            found = []
            while (message := listener.get_message(timeout=0.1)) is not None:
                found.append(message["data"])
            listener.close()
            return found

        return heard


def size_of(sequences: Sequence[int], frame: int = 9) -> int:
    """Of some events as they are sent: frames of so many bytes, and their ids."""
    return sum(frame + len(f"id: first-{sequence}\n") for sequence in sequences)


@pytest.fixture
def log(server: RedisServer, namespace: str) -> Log:
    return Log(server, namespace)


def wait(milliseconds: float) -> None:
    """Until the server's clock, which is this machine's, has gone so far."""
    end = time.time() + milliseconds / 1000
    wait_until(lambda: time.time() > end)


# -- append: the place ------------------------------------------------------------------------------------------------


def test_sequences_count_over_all_channels(log: Log) -> None:
    assert [log.append(channel) for channel in ("a", "b", "a")] == [("first", 1), ("first", 2), ("first", 3)]
    assert (log.stored("a"), log.stored("b")) == ([1, 3], [2])


@pytest.mark.parametrize("newest", [2**31 - 2, 2**32 - 2, 10**15 - 2, 2**53 - 4])
def test_sequences_are_exact_where_numbers_are_large(log: Log, newest: int) -> None:
    log.fill(1)
    log.set(newest=newest)
    heard = log.told("news")
    assert log.fill(3, history=2) == [newest + 1, newest + 2, newest + 3]
    assert log.stored() == [newest + 2, newest + 3]
    assert log.state() == {"last": newest + 3, "event": newest + 3, "trimmed": newest + 1} | {
        "finished": 0,
        "published": 4,
        "size": size_of([newest + 2, newest + 3]),
    }
    assert log.page("news", after=newest + 1)[:2] == ("first", newest + 3)
    assert log.shown("news", after=newest + 2) == [[newest + 3]]
    assert log.page("news", after=0, history=1)[3][0][0] == b"%d" % (newest + 2)
    assert [place.split()[1:3] for place in heard()] == [
        [b"1", b"%d" % (newest + 1)],
        [b"%d" % (newest + 1), b"%d" % (newest + 2)],
        [b"%d" % (newest + 2), b"%d" % (newest + 3)],
    ]


def test_the_time_of_a_log_never_goes_back(log: Log) -> None:
    log.fill(1)
    ahead = int(time.time() * 1000) + 60_000
    log.set(at=ahead)
    log.fill(2)
    times = [int(id.split(b"-")[1]) for id, _ in log.client.xrange(log.keys.stream("news"))]
    assert times[0] < ahead
    assert times[1:] == [ahead, ahead]
    assert log.client.zscore(log.keys.ages, "news") == ahead


def test_the_time_is_that_of_the_server(log: Log) -> None:
    before = time.time()
    log.fill(1)
    ((id, _),) = log.client.xrange(log.keys.stream("news"))
    assert int(before * 1000) <= int(id.split(b"-")[1]) <= time.time() * 1000


def test_frames_may_hold_any_byte(log: Log) -> None:
    head, tail = bytes(range(256)) * 3, bytes(reversed(range(256)))
    heard = log.told("news")
    log.append(frame=(head, tail))
    ((_, fields),) = log.client.xrange(log.keys.stream("news"))
    assert fields == {b"k": b"1", b"h": head, b"t": tail}
    assert log.state()["size"] == size_of([1], 4 * 256)
    (message,) = heard()
    place, _, frame = message.partition(b"\n")
    assert frame == head + tail
    assert place.split(b" ")[-1] == b"768"
    places, frames = log.page("news")[3][0][3:]
    assert (places.split()[1:], frames) == ([b"1", b"768", b"256"], head + tail)


NAMES = [
    *(
        "*",
        "?",
        "[a-z]",
        "[^",
        "\\",
        "\\*",
        "{",
        "}",
        "{other}",
        "{}",
        "}{",
        "a b",
        " ",
        "%s",
        "%d %",
        "'",
        '"',
        "'\"`",
    ),
    *(
        "$1",
        "#",
        "a:b",
        "channel:x",
        "events:",
        "log",
        "ages",
        "ünïcödé",
        "🚋",
        "\u2028",
        "-",
        "(",
        "[",
        "+",
        "(a",
        "-1",
        "0",
    ),
    *("nil", "false", "é" * 127, "x" * 255),
]


@pytest.mark.parametrize("name", NAMES)
def test_any_name_is_a_channel_of_its_own(log: Log, name: str) -> None:
    check_channel(name)
    log.fill(1, "other")
    heard = log.told(name)
    log.fill(2, name)
    log.finish(name)
    assert log.stored(name) == [2, 3]
    assert log.stored("other") == [1]
    assert [message.split(b" ")[2] for message in heard()] == [b"2", b"3", b"4"]
    assert log.shown("other", name, after=0) == [[1], [2, 3]]
    assert log.client.zrange(log.keys.names, 0, -1) == sorted([b"other", name.encode()])
    assert [found[0] for found in log.listed("other", name)] == [1, 2]
    assert log.keys.channel(log.keys.topic(name).encode()) == name
    for prefix in ("channel", "events"):
        assert log.client.exists(f"{log.keys.log.removesuffix('log')}{prefix}:{name}") == 1


def test_all_keys_of_a_namespace_are_hashed_alike(log: Log) -> None:
    # Redis cluster specification, hash tags: only what stands between the first { and the first } behind it counts.
    for name in NAMES:
        log.append(name)
    namespace = log.keys.log.removeprefix("{").removesuffix("}:log")
    keys = log.client.keys(f"*{namespace}*")
    assert len(keys) == 3 + 2 * len(NAMES)
    assert {key[key.index(b"{") + 1 : key.index(b"}")] for key in keys} == {namespace.encode()}


# -- append: what is kept ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("history", [1, 2, 5])
def test_just_the_newest_are_kept(log: Log, history: int) -> None:
    for number in range(1, 12):
        log.append(frame=(b"x" * number, b"y" * number), history=history)
        kept = list(range(max(1, number - history + 1), number + 1))
        assert log.stored() == kept
        state = log.state()
        assert state["trimmed"] == kept[0] - 1
        assert state["size"] == sum(size_of([sequence], 2 * sequence) for sequence in kept)
        assert (state["published"], state["event"], state["last"]) == (number, number, number)


def test_without_a_history_nothing_is_kept_but_the_mark(log: Log) -> None:
    log.fill(3, history=0)
    assert log.stored() == []
    assert log.state() == {"last": 3, "event": 3, "trimmed": 3, "finished": 0, "size": 0, "published": 3}
    assert log.page("news", history=0)[3] == [[b"3", b"0", b"0", b"", b""]]


def test_a_channel_between_others_keeps_its_own(log: Log) -> None:
    for _ in range(5):
        log.append("a", history=2)
        log.append("b", history=3)
    assert (log.stored("a"), log.stored("b")) == ([7, 9], [6, 8, 10])
    assert (log.state("a")["trimmed"], log.state("b")["trimmed"]) == (5, 4)


def test_what_a_process_that_kept_more_has_left_goes_in_steps(log: Log) -> None:
    log.fill(1_000)
    log.append(history=10)
    assert log.state()["trimmed"] == 200 + 1
    assert len(log.stored()) == log.client.xlen(log.keys.stream("news")) == 800
    log.fill(4, history=10)
    assert log.stored() == list(range(996, 1_006))
    assert log.state() | {"last": 0} == {"last": 0, "event": 1_005, "trimmed": 995, "finished": 0} | {
        "size": size_of(range(996, 1_006)),
        "published": 1_005,
    }


def test_without_a_bound_everything_is_kept(log: Log) -> None:
    log.fill(300)
    assert len(log.stored()) == 300
    assert log.state()["trimmed"] == 0


def test_what_is_too_old_goes_with_the_next_event(log: Log) -> None:
    log.fill(150, max_age=60_000)
    wait(300)
    log.append(max_age=300)
    wait(1)
    assert log.stored() == [151]
    assert (log.state()["trimmed"], log.state()["size"]) == (150, size_of([151]))


def test_what_is_not_too_old_stays(log: Log) -> None:
    log.fill(3)
    log.fill(3, max_age=60_000)
    assert log.stored() == [1, 2, 3, 4, 5, 6]


def test_a_stream_goes_by_itself_when_all_of_it_is_too_old(log: Log) -> None:
    log.append(max_age=5_000)
    assert 5_000 < log.ttl() <= 6_000
    log.append(max_age=50_000)
    assert 50_000 < log.ttl() <= 51_000
    log.append()
    assert log.ttl() == -1
    log.append(max_age=7_000)
    assert 7_000 < log.ttl() <= 8_000
    assert log.client.pttl(log.keys.state("news")) == -1
    assert log.client.pttl(log.keys.log) == -1


def test_after_a_stream_went_its_size_is_counted_from_nothing_and_its_mark_is_right(log: Log) -> None:
    log.fill(3)
    log.client.delete(log.keys.stream("news"))  # it expired
    assert log.page("news")[3] == [[b"3", b"0", b"0", b"", b""]]
    assert log.listed("news") == [[0, b"0", b"3", b"0", b"", b""]]
    log.append()
    assert log.state()["size"] == size_of([4])
    assert log.state()["published"] == 4
    assert log.shown("news", after=3) == [[4]]


def test_after_a_stream_went_a_position_before_it_is_known_to_have_missed_something(log: Log) -> None:
    log.fill(3, max_age=60_000)
    log.client.delete(log.keys.stream("news"))
    log.append(max_age=60_000)
    mark, _, newest, *_ = log.page("news", after=1, max_age=60_000)[3][0]
    assert (mark, newest) == (b"3", b"4")
    assert log.shown("news", after=1, max_age=60_000) == [[4]]


# -- append: who is told ----------------------------------------------------------------------------------------------


def test_each_entry_names_its_predecessor_in_its_channel(log: Log) -> None:
    heard = log.told("a")
    for channel in ("a", "b", "a", "b", "b", "a"):
        log.append(channel)
    log.finish("a")
    places = [message.partition(b"\n")[0].split(b" ") for message in heard()]
    assert [(int(before), int(sequence)) for _, before, sequence, *_ in places] == [(0, 1), (1, 3), (3, 6), (6, 7)]
    assert {epoch for epoch, *_ in places} == {b"first"}
    assert [int(kind) for *_, kind, _ in places] == [Kind.RAW] * 3 + [Kind.FINISH]


def test_who_listens_to_another_channel_is_not_told(log: Log) -> None:
    heard = log.told("a", "a*", "[ab]")
    log.fill(3, "b")
    log.fill(1, "ab")
    assert heard() == []


def test_finishing_is_told_once_and_stores_nothing_to_show(log: Log) -> None:
    heard = log.told("news")
    log.fill(2)
    assert log.finish() == ("first", 3)
    assert log.finish() == ("first", 3)
    assert len(heard()) == 3
    assert log.stored() == [1, 2]
    assert log.state() == {"last": 3, "event": 2, "trimmed": 0, "finished": 1, "size": size_of([1, 2]), "published": 2}
    assert log.append() == ("first", 4)
    assert log.state()["finished"] == 0


def test_a_channel_never_used_can_be_finished(log: Log) -> None:
    assert log.finish() == ("first", 1)
    assert log.page("news")[3] == [[b"0", b"1", b"0", b"", b""]]
    assert log.listed("news") == [[0, b"0", b"0", b"1", b"", b""]]


# -- append: many at once -------------------------------------------------------------------------------------------


def test_entries_of_one_call_are_like_those_of_many(log: Log, server: RedisServer, namespace: str) -> None:
    entries = [(f"c{n * n % 7}", Kind.FINISH if n % 11 == 5 else Kind.RAW, b"x" * n, b"y") for n in range(1, 120)]
    entries = [(name, kind, *((b"", b"") if kind == Kind.FINISH else frame)) for name, kind, *frame in entries]
    single = Log(server, f"{namespace}-single")
    channels = sorted({entry[0] for entry in entries})
    heard = [found.told(*channels) for found in (log, single)]
    epoch, sequences, failures = log.append_all(*entries, history=5, max_age=60_000)
    assert (epoch, failures) == ("first", [])
    assert sequences == [single.append_all(entry, history=5, max_age=60_000)[1][0] for entry in entries]

    def without_time(messages: list[bytes]) -> list[bytes]:
        return [re.sub(rb"^(\S+ \S+ \S+) \S+", rb"\1", message) for message in messages]

    together, one_by_one = (without_time(hear()) for hear in heard)
    assert together == one_by_one
    for name in channels:
        assert log.state(name) == single.state(name)
        assert log.stored(name) == single.stored(name)
    assert log.page()[1] == single.page()[1] == max(sequences)
    for key in ("ages", "names"):
        assert sorted(server.client.zrange(getattr(log.keys, key), 0, -1)) == sorted(
            server.client.zrange(getattr(single.keys, key), 0, -1)
        )


def test_what_fails_in_one_channel_fails_alone(log: Log) -> None:
    log.client.set(log.keys.state("b"), "something else")
    log.client.set(log.keys.stream("d"), "something else")
    entries = [(name, Kind.RAW, b"x", b"") for name in "abcadc"]
    epoch, sequences, failures = log.append_all(*entries)
    assert sequences == [1, 0, 2, 3, 0, 4]
    assert len(failures) == 2
    for failure in failures:
        assert "WRONGTYPE" in failure
        assert failure.endswith("the event is not stored")
    assert (log.stored("a"), log.stored("c")) == ([1, 3], [2, 4])
    assert log.append("a") == (epoch, 5)


def test_a_finish_in_the_midst_of_events(log: Log) -> None:
    finish = ("news", Kind.FINISH, b"", b"")
    event = ("news", Kind.RAW, b"x", b"y")
    assert log.append_all(finish, finish, event, event, finish, finish, event, finish)[1] == [1, 1, 2, 3, 4, 4, 5, 6]
    assert log.stored() == [2, 3, 5]
    assert log.state() == {
        "last": 6,
        "event": 5,
        "finished": 1,
        "trimmed": 0,
        "published": 3,
        "size": size_of([2, 3, 5], 2),
    }


# -- the epoch --------------------------------------------------------------------------------------------------------


def test_the_first_to_come_gives_the_epoch(log: Log) -> None:
    assert log.page(new_epoch="a")[:2] == ("a", 0)
    assert log.page(new_epoch="b")[0] == "a"
    assert log.append(new_epoch="c") == ("a", 1)


@pytest.mark.parametrize("known", [("first", 3), ("first", 0), ("other", 4), ("", 4), ("other", 2**53)])
def test_the_epoch_stays_while_the_sequence_does_not_run_backwards(log: Log, known: tuple[str, int]) -> None:
    log.fill(3)
    assert log.page(known=known, new_epoch="second")[:2] == ("first", 3)
    assert log.append(known=known, new_epoch="second") == ("first", 4)


def test_a_sequence_that_runs_backwards_begins_an_epoch(log: Log) -> None:
    log.fill(3)
    epoch, newest, *_ = log.page("news", known=("first", 4), new_epoch="second")
    assert epoch == "second"
    assert newest > 1_000_000_000  # of what is left in the channels, nothing is given an id that another event gets
    assert log.append(known=("first", 4), new_epoch="third") == ("second", newest + 1)
    epoch, sequence = log.append(known=("second", newest + 2), new_epoch="third")
    assert epoch == "third"
    assert sequence > newest + 1
    assert log.page(known=("third", sequence), new_epoch="fourth")[:2] == ("third", sequence)
    assert log.shown("news") == [[1, 2, 3, newest + 1, sequence]]


def test_a_log_that_is_gone_begins_an_epoch(log: Log) -> None:
    log.fill(3)
    log.client.delete(*log.client.keys(f"{log.keys.log.removesuffix('log')}*"))
    assert log.append(known=("first", 3), new_epoch="second") == ("second", 1)


@pytest.mark.parametrize("known", [("first", 5), ("", 0)])
def test_a_log_whose_own_key_is_gone_goes_on_behind_what_its_channels_hold(log: Log, known: tuple[str, int]) -> None:
    log.fill(3)
    log.fill(2, "other")
    log.client.delete(log.keys.log)
    epoch, sequence = log.append(known=known, new_epoch="second")
    assert epoch == "second"
    assert sequence > 1_000_000_000
    assert log.append("other", known=("first", 5)) == ("second", sequence + 1)
    assert log.shown("news", "other") == [[1, 2, 3, sequence], [4, 5, sequence + 1]]


@pytest.mark.parametrize("history", [-1, 0])
@pytest.mark.parametrize("lost", ["newest", "the log and the names"])
def test_a_sequence_that_was_set_back_is_found_by_what_a_channel_holds(log: Log, lost: str, history: int) -> None:
    log.set(newest=2**52)  # far ahead of any clock
    (newest,) = log.fill(1, history=history)
    if lost == "newest":
        log.client.hdel(log.keys.log, "newest")
    else:
        log.client.delete(log.keys.log, log.keys.names)
    before = log.append("other")[1]
    assert before <= 2
    epoch, sequences, failures = log.append_all(
        *[("news", Kind.RAW, b"data: x\n", b"\n")] * 2, ("other", Kind.RAW, b"data: x\n", b"\n"), history=history
    )
    assert (sequences, failures) == ([newest + 2, newest + 3, newest + 4], [])
    assert log.page(known=(epoch, newest + 4))[:2] == (epoch, newest + 4)


# -- page -------------------------------------------------------------------------------------------------------------


def test_a_page_of_nothing(log: Log) -> None:
    log.fill(1)
    assert log.page() == ("first", 1, 0, [])
    assert log.page("never", "used")[3] == [None, None]


def test_a_page_begins_behind_its_position(log: Log) -> None:
    log.fill(5)
    for after in range(8):
        assert log.shown("news", after=after) == [list(range(after + 1, 6))]
    assert log.shown("news", after="") == [[]]


@pytest.mark.parametrize("after", [10**18, 999_999_999_999_999_999, 9_999_999_999_999_999_999])
def test_a_page_far_ahead_is_empty(log: Log, after: int) -> None:
    log.fill(5)
    assert log.shown("news", after=after) == [[]]


def test_a_page_ends_with_enough_entries_or_bytes(log: Log) -> None:
    log.fill(600, "many")
    assert log.shown("many") == [list(range(1, 501))]
    log.fill(40, "large", frame=(b"x" * 10_000, b""))
    assert [len(found) for found in log.shown("large")] == [7]
    log.append("huge", frame=(b"x" * 1_000_000, b""))
    log.append("huge")
    assert [len(found) for found in log.shown("huge")] == [1]


@pytest.mark.parametrize("history", [0, 1, 3, 5, 6, 9])
def test_what_is_one_too_many_is_not_shown(log: Log, history: int) -> None:
    # A process that keeps more has stored them.
    log.fill(6)
    shown = list(range(1, 7))[6 - history if history < 6 else 0 :]
    mark, _, newest, *_ = log.page("news", history=history)[3][0]
    assert log.shown("news", history=history) == [shown]
    assert int(mark) == 6 - len(shown)
    assert int(newest) == (6 if shown else 0)
    (events, *_, oldest, last) = log.listed("news", history=history)[0]
    assert events == len(shown)
    assert [end.split(b"-")[0] for end in (oldest, last)] == ([b"%d" % shown[0], b"6"] if shown else [b"", b""])


def test_what_is_too_old_is_not_shown(log: Log) -> None:
    log.fill(150)
    wait(300)
    log.fill(2)
    assert log.shown("news", max_age=300) == [[151, 152]]
    assert log.page("news", max_age=300)[3][0][:3] == [b"150", b"0", b"152"]
    assert log.listed("news", max_age=300)[0][0] == 2
    wait(300)
    assert log.page("news", max_age=300)[3][0] == [b"152", b"0", b"0", b"", b""]
    assert log.listed("news", max_age=300)[0][0] == 0


def test_what_is_too_old_and_what_is_too_much_hide_each_other(log: Log) -> None:
    log.fill(10)
    wait(300)
    log.fill(5)
    assert log.shown("news", max_age=300, history=3) == [[13, 14, 15]]
    assert log.shown("news", max_age=300, history=8) == [[11, 12, 13, 14, 15]]
    assert [log.listed("news", max_age=300, history=history)[0][0] for history in (3, 8)] == [3, 5]


# -- list -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 99, 100, 101, 250])
def test_a_list_counts_what_is_shown(log: Log, count: int) -> None:
    log.fill(count)
    assert log.listed("news")[0][0] == count
    log.fill(count, "other")
    assert [found[0] for found in log.listed("news", "other")] == [count, count]
    for history in {1, count // 2, max(0, count - 1)}:
        assert log.listed("other", history=history)[0][0] == history


def test_a_list_says_what_there_is(log: Log) -> None:
    log.fill(1, "other")
    log.fill(5, frame=(b"12", b"345"), history=3)
    log.finish()
    events, size, published, finished, oldest, newest = log.listed("news")[0]
    assert (events, size, published, finished) == (3, b"%d" % size_of([4, 5, 6], 5), b"5", b"1")
    assert (oldest.split(b"-")[0], newest.split(b"-")[0]) == (b"4", b"6")
    assert log.listed("never used") == [None]


# -- forget -----------------------------------------------------------------------------------------------------------


def test_a_channel_without_events_is_forgotten_and_its_mark_is_everybodys(log: Log) -> None:
    log.fill(1, "other")
    log.fill(3)
    log.client.delete(log.keys.stream("news"))
    wait(5)
    assert log.forget("news", 60_000) == 0
    assert log.forget("news", 1) == 1
    assert log.client.exists(log.keys.state("news")) == 0
    assert log.client.zrange(log.keys.ages, 0, -1) == log.client.zrange(log.keys.names, 0, -1) == [b"other"]
    assert log.page("news")[1:] == (4, 4, [None])
    assert log.forget("news", 1) == 0
    assert log.append() == ("first", 5)
    assert log.state()["trimmed"] == 4
    assert log.state()["published"] == 1


def test_the_mark_of_all_never_goes_back(log: Log) -> None:
    for channel in ("a", "b"):
        log.fill(1, channel)
        log.client.delete(log.keys.stream(channel))
    wait(5)
    assert (log.forget("b", 1), log.page()[2]) == (1, 2)
    assert (log.forget("a", 1), log.page()[2]) == (1, 2)


def test_a_channel_that_holds_events_is_not_forgotten(log: Log) -> None:
    log.fill(1)
    wait(5)
    assert log.forget("news", 1) == 0
    assert log.stored() == [1]


def test_a_channel_that_keeps_nothing_is_forgotten(log: Log) -> None:
    log.fill(2, history=0)
    wait(5)
    assert log.forget("news", 1) == 1
    assert sorted(log.client.keys(f"{log.keys.log.removesuffix('log')}*")) == [log.keys.log.encode()]
    assert log.page()[2] == 2


def test_a_finished_channel_that_never_had_an_event_leaves_no_mark(log: Log) -> None:
    log.finish()
    wait(5)
    assert log.forget("news", 1) == 1
    assert log.page()[2] == 0


def test_a_channel_whose_run_is_running_is_looked_at_again_later(log: Log) -> None:
    log.fill(1, history=0)
    keys = log.keys
    wait(5)
    assert log.run("start", [keys.state("news"), keys.running, keys.leases], "news", "r1", "p1", 10_000_000) == 1
    before = log.client.zscore(keys.ages, "news")
    assert log.forget("news", 1) == 1  # so the next ones are looked at
    assert log.client.zscore(keys.ages, "news") >= before + 5
    assert log.client.hget(keys.state("news"), "state") == b"running"
    wait(5)
    log.client.hset(keys.state("news"), "state", "finished")
    assert log.forget("news", 1) == 1
    assert log.client.exists(keys.state("news")) == 0


# -- begin ------------------------------------------------------------------------------------------------------------


def test_a_server_that_was_started_again_gives_no_id_twice(
    own_server: Callable[..., RedisServer], namespace: str
) -> None:
    server = own_server(appendonly="yes", appendfsync="always")
    log = Log(server, namespace)

    def begin(known: tuple[str, int] = ("", 0), new_epoch: str = "first") -> None:
        log.run("begin", [log.keys.log], *known, new_epoch)

    begin()
    assert log.append() == ("first", 1)
    begin()  # another process, or another script
    assert log.append() == ("first", 2)
    server.kill()
    server.start()
    begin()
    begin()
    _, sequence = log.append()
    assert sequence > 1_000_000_000
    begin(("first", sequence + 5), "second")
    epoch, last = log.append()
    assert epoch == "second"
    assert last > sequence
    assert log.shown("news") == [[1, 2, sequence, last]]


def test_a_copy_of_a_log_that_had_no_event_yet_gives_no_id_twice(log: Log) -> None:
    assert log.page()[:2] == ("first", 0)
    log.client.hset(log.keys.log, "run", "the one before")  # which had given ids after the copy was made
    log.run("begin", [log.keys.log], "", 0, "second")
    epoch, sequence = log.append(new_epoch="second")
    assert epoch == "first"
    assert sequence > 1_000_000_000


def test_a_loss_is_noticed_by_whoever_knows_of_it_though_others_came_first(log: Log) -> None:
    log.run("begin", [log.keys.log], "", 0, "first")
    log.fill(3)
    log.client.hset(log.keys.log, "run", "another server's, which had two more")
    log.run("begin", [log.keys.log], "first", 3, "second")
    leapt = log.page()[1]
    assert log.append(known=("first", 3), new_epoch="second") == ("first", leapt + 1)
    for known in [("first", 3), ("first", leapt), ("first", leapt + 1), ("other", 5)]:
        assert log.page(known=known, new_epoch="second")[:2] == ("first", leapt + 1)
    epoch, newest, *_ = log.page("news", known=("first", 5), new_epoch="second")
    assert epoch == "second"
    assert newest > leapt + 1
    assert log.append(known=("second", newest), new_epoch="third") == ("second", newest + 1)

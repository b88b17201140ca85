"""The capacity model's arithmetic, and the simulated reconnect storm."""

from dataclasses import replace

import pytest
from benchmarks.scale.__main__ import SUBSCRIBERS
from benchmarks.scale.capacity import TRAFFIC, Costs, Traffic, need
from benchmarks.scale.findings import Findings, load
from benchmarks.scale.measure import Check
from benchmarks.scale.reconnect import CLIENTS, Storm, simulate

COSTS = Costs(
    base_mib=48.0,
    subscriber_kib=20.0,
    write_us=10.0,
    event_us=500.0,
    open_us=400.0,
    redis_publish_us=80.0,
    redis_notify_us=10.0,
)
SILENT = Traffic("nothing but heartbeats", 0.0, shared=False, event_bytes=100)
SCORE = Traffic("one channel, rarely", 0.2, shared=True, event_bytes=200)
PRICES = Traffic("one channel, often", 5.0, shared=True, event_bytes=150)


def test_costs_are_straight_lines():
    assert COSTS.share(1_000, 10.0) == pytest.approx(10 * (500 + 1_000 * 10) / 1_000_000)
    assert COSTS.mib(1_024) == 48 + 20
    assert COSTS.redis_us(3) == 110


def test_memory_decides_where_nothing_happens():
    found = need(1_000_000, SILENT, COSTS)
    assert found.limit == "memory"
    assert found.processes == 10  # of 102,400 subscribers, in 2,000 MiB
    assert found.memory_gib == pytest.approx((1_000_000 * 20 / 1024 + 10 * 48) / 1024)
    assert found.redis_share == 0
    assert found.network_gbit_s == pytest.approx(1_000_000 * 112 / 15 * 8 / 1e9)
    assert found.reconnect_s == pytest.approx(40.0)


def test_an_event_reaches_the_last_subscriber_of_a_process_in_time():
    found = need(1_000_000, SCORE, COSTS)
    assert found.limit == "time of a round"
    assert found.processes == 40  # of 25,000: 10 us each are a quarter of a second
    assert found.redis_share == pytest.approx(0.2 * (80 + 40 * 10) / 1_000_000)  # each process is told of it


def test_the_processor_decides_where_much_happens():
    found = need(1_000_000, PRICES, COSTS)
    assert found.limit == "processor"
    assert found.processes == 102  # 1,000,000 x (5 + 1/15) writes/s at 10 us, and half of a processor
    assert found.network_gbit_s == pytest.approx(1_000_000 * (5 * 254 + 112 / 15) * 8 / 1e9)


def test_events_of_their_own_are_each_published():
    own = replace(PRICES, shared=False)
    assert need(1_000_000, own, COSTS).redis_share == pytest.approx(5 * 90)  # and one process is told of it


@pytest.mark.parametrize("traffic", TRAFFIC, ids=lambda traffic: traffic.name)
def test_more_subscribers_need_more(traffic):
    small, *_, large = (need(subscribers, traffic, COSTS) for subscribers in SUBSCRIBERS)
    assert large.processes > small.processes
    assert large.memory_gib > small.memory_gib
    assert large.network_gbit_s == pytest.approx(small.network_gbit_s * SUBSCRIBERS[-1] / SUBSCRIBERS[0])


ROOM = Storm(clients=2_000, opens_per_s=1_000, queue=2_000)


def storm(kind, **changes):
    return simulate(replace(ROOM, **changes), CLIENTS[kind])


@pytest.mark.parametrize("kind", CLIENTS)
def test_a_storm_goes_the_same_way_each_time(kind):
    assert storm(kind) == storm(kind)


def test_another_seed_is_another_storm():
    kind = "browsers, told 1 to 10 s"
    assert storm(kind) != storm(kind, seed=2)


@pytest.mark.parametrize("kind", CLIENTS)
def test_all_come_back_at_once_where_there_is_room(kind):
    found = storm(kind)
    assert (found.connected, found.attempts, found.in_vain) == (1.0, 1.0, 0.0)
    assert sum(found.attempts_by_second) == found.connected_by_second[-1] == 2_000


def test_browsers_wait_for_three_seconds_and_then_for_their_turn():
    found = storm("browsers, 3 s")
    assert found.attempts_by_second == [0, 0, 0, 2_000, 0, 0]
    assert found.median_s == pytest.approx(3 + 1)
    assert found.last_s == pytest.approx(3 + 1.98)


def test_a_time_of_its_own_for_each_lowers_the_busiest_second():
    assert storm("browsers, 3 s").busiest == 2_000
    assert storm("browsers, told 1 to 10 s").busiest < 2_000 / 9 * 1.3


def test_a_queue_longer_than_clients_wait_for_keeps_a_storm_going():
    found = storm("browsers, 3 s", opens_per_s=100, patience=5.0, queue=2_000, longest=600.0)
    assert found.in_vain > 0.9
    assert found.connected == 0.25  # those who were first; afterwards the queue is full of others who have left


def test_a_queue_shorter_than_that_refuses_and_nothing_is_in_vain():
    found = storm("browsers, 3 s", opens_per_s=100, patience=5.0, queue=400, longest=600.0)
    assert found.in_vain == 0.0
    assert found.connected == 1.0


def test_clients_of_tidings_try_less_often_with_each_failure():
    crowded = {"opens_per_s": 20, "queue": 20}
    assert storm("tidings.client, from 1 to 1.5 s", **crowded).attempts < storm("browsers, 3 s", **crowded).attempts / 2


def test_a_storm_ends_though_not_all_have_a_stream():
    found = storm("browsers, 3 s", opens_per_s=1, queue=5, longest=60.0)
    assert 0.02 < found.connected < 0.04
    assert found.median_s is None
    assert len(found.attempts_by_second) <= 66


def test_findings_are_read_as_they_were_written(tmp_path):
    found = Findings(
        "a machine",
        False,
        COSTS,
        [Check("memory", "MiB", 1.0, 1.1)],
        {SCORE.name: {1_000: need(1_000, SCORE, COSTS)}},
        {"room": {"browsers, 3 s": storm("browsers, 3 s")}},
    )
    file = tmp_path / "scale.json"
    file.write_text(found.as_json())
    assert load(file) == found

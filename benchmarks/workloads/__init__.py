"""What is measured. Each workload starts the servers it needs, and returns figures by name."""

from benchmarks.workloads.background import BACKGROUND
from benchmarks.workloads.channels import CHANNELS
from benchmarks.workloads.growth import GROWTH
from benchmarks.workloads.reading import READING
from benchmarks.workloads.redis import REDIS
from benchmarks.workloads.storages import STORAGES
from benchmarks.workloads.storm import STORMS
from benchmarks.workloads.streams import STREAMS
from benchmarks.workloads.workload import Figures, Stage, Workload

__all__ = ["GROUPS", "USUAL", "WORKLOADS", "Figures", "Stage", "Workload"]

_GROUPS = {
    "streams": STREAMS,
    "channels": (*CHANNELS, *STORMS),
    "storages": STORAGES,
    "on_redis": REDIS,
    "answering": BACKGROUND,
    "clients": READING,
    "growth": GROWTH,
}
WORKLOADS = {workload.key: workload for workloads in _GROUPS.values() for workload in workloads}
GROUPS = {group: [workload.key for workload in workloads] for group, workloads in _GROUPS.items()}
USUAL = [key for key in WORKLOADS if key not in GROUPS["growth"]]
"""What is measured if nothing is asked for. Growth takes as long as all of it."""

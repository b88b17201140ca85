"""What is measured. Each workload starts the servers it needs, and returns figures by name."""

from benchmarks.workloads.background import BACKGROUND
from benchmarks.workloads.channels import CHANNELS
from benchmarks.workloads.reading import READING
from benchmarks.workloads.redis import REDIS
from benchmarks.workloads.storages import STORAGES
from benchmarks.workloads.streams import STREAMS
from benchmarks.workloads.workload import Figures, Stage, Workload

__all__ = ["WORKLOADS", "Figures", "Stage", "Workload"]

WORKLOADS = {workload.key: workload for workload in (*STREAMS, *CHANNELS, *STORAGES, *REDIS, *BACKGROUND, *READING)}

"""Channels with history, on one process or many."""

from tidings.broker.broker import Broker
from tidings.broker.statistics import BrokerStatistics
from tidings.broker.status import StreamStatus
from tidings.broker.storage import ChannelInfo
from tidings.broker.subscription import DeliveredEvent, Subscription

__all__ = ["Broker", "BrokerStatistics", "ChannelInfo", "DeliveredEvent", "StreamStatus", "Subscription"]

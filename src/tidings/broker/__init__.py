"""Channels with history, on one process or many."""

from tidings.broker.broker import Broker
from tidings.broker.subscription import DeliveredEvent, Subscription

__all__ = ["Broker", "DeliveredEvent", "Subscription"]

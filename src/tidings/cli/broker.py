"""The broker that a command works on."""

from typing import Annotated

import typer

from tidings.broker import Broker
from tidings.cli.ending import fail

__all__ = ["BrokerArgument", "NamespaceOption", "broker_of"]

BrokerArgument = Annotated[
    str,
    typer.Argument(
        metavar="BROKER",
        help="The URL of the application's broker, such as sqlite:///events.db or redis://localhost:6379/0.",
    ),
]

NamespaceOption = Annotated[
    str, typer.Option(metavar="NAME", help="The namespace that the application gives its broker on Redis, if it does.")
]


def broker_of(url: str, namespace: str = "tidings") -> Broker:
    """The broker of this URL; ends the process if there is none that another process could have open.

    It has no bounds of its own, so that it drops nothing that the application wants to keep.
    """
    try:
        broker = Broker(url, history=None, max_age=None, forget_after=None, max_event_size=None, namespace=namespace)
    except ValueError as error:
        fail(str(error).replace("'url'", "BROKER", 1).replace("'namespace'", "--namespace", 1))
    except ImportError as error:  # it says what to install
        fail(str(error))
    if url.startswith("memory://"):
        fail("memory:// is in the memory of the application's own process, where no command can reach it")
    return broker

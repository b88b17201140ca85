"""The files of docs/deployment.md leave a server the time that it needs to end."""

import configparser
import inspect

import yaml

from tests.docs.pages import ROOT, sections
from tidings import Broker

PAGE = ROOT / "docs" / "deployment.md"
GRACE = inspect.signature(Broker).parameters["background_grace"].default


def block(language: str) -> str:
    (found,) = (block.text for section in sections(PAGE) for block in section.of(language))
    return found


def graceful_timeout(command: list[str]) -> float:
    return float(command[command.index("--timeout-graceful-shutdown") + 1])


def test_a_service_has_time_to_end() -> None:
    unit = configparser.ConfigParser()
    unit.optionxform = str
    unit.read_string(block("ini"))
    service = unit["Service"]
    assert graceful_timeout(service["ExecStart"].split()) + GRACE < float(service["TimeoutStopSec"])
    assert service["Environment"].startswith(f"BROKER_URL=sqlite:////var/lib/{service['StateDirectory']}/")


def test_a_pod_has_time_to_end() -> None:
    deployment = yaml.safe_load(block("yaml"))["spec"]
    pod = deployment["template"]["spec"]
    (container,) = pod["containers"]
    assert deployment["selector"]["matchLabels"] == deployment["template"]["metadata"]["labels"]
    _, before = container["lifecycle"]["preStop"]["exec"]["command"]
    assert float(before) + graceful_timeout(container["command"]) + GRACE < pod["terminationGracePeriodSeconds"]

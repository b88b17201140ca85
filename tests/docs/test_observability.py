"""What the page on observability says of Prometheus is what comes out there."""

import re
import subprocess
import sys

from tests.docs.pages import ROOT

PAGE = (ROOT / "docs" / "observability.md").read_text()

SCRIPT = """
import asyncio
from opentelemetry import metrics
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import generate_latest
from starlette.applications import Starlette
from starlette.routing import Route
from tidings import Broker, EventSourceResponse
from tidings.testing import open_stream

metrics.set_meter_provider(MeterProvider([PrometheusMetricReader(scope_info_enabled=False)]))

def failing():
    yield 1
    raise LookupError

async def main():
    async with Broker() as broker:
        def news(request):
            return EventSourceResponse(broker.subscribe("news", last_event_id="no id"), max_events=1)

        routes = [Route("/news", news), Route("/failing", lambda _: EventSourceResponse(failing()))]
        async with open_stream(Starlette(routes=routes), "/news") as stream:
            await stream.next()
        async with broker.subscribe("news", last_event_id="earliest") as subscription:
            await broker.publish("news", 1)
            await anext(subscription)
            await broker.publish("news", 2)
            await anext(subscription)
        await broker.start("job", iter([1]))
        while broker.statistics().background:
            await asyncio.sleep(0.01)
        try:
            async with open_stream(Starlette(routes=routes), "/failing") as stream:
                async for _ in stream:
                    pass
        except Exception as error:
            assert "LookupError" in repr(error), error
        print(generate_latest().decode())

asyncio.run(main())
"""


def test_the_names_and_labels_of_tables_and_queries_are_those_of_prometheus() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    ours = "\n".join(line for line in done.stdout.splitlines() if line.startswith("tidings_"))
    series = set(re.findall(r"^(tidings_\w+)\{", ours, re.MULTILINE))
    labels = set(re.findall(r'(\w+)="', ours))
    families = {re.sub(r"_(bucket|count|sum)$", "", name) for name in series}

    rows = re.findall(r"^\| `[\w.]+` \| `(\w+)` \| (counter|up-down counter|histogram|gauge)?", PAGE, re.MULTILINE)
    assert {name for name, kind in rows if kind} == families
    assert {name for name, kind in rows if not kind} == labels - {"le"}

    queries = PAGE[PAGE.index("## What to watch") : PAGE.index("## Logs")]
    used = re.findall(r"(tidings_\w+)(?:\{([^}]*)\})?", re.sub(r'"[^"]*"', '""', queries))
    matched = {name for _, matchers in used for name in re.findall(r"(\w+)[=!]", matchers)}
    assert {name for name, _ in used} - labels <= series, "a query asks for what there isn't"
    assert len(used) > 15
    assert matched <= labels
    for value in re.findall(r'tidings_(?:stream_ending|reset_reason|background_state)=~?"([^"]+)"', queries):
        for each in value.split(r"\|"):
            assert f'="{each}"' in ours, "or for a value that never comes"

"""The demo keeps what its OpenAPI document says: schemathesis reads the one and tries the other."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from tests.servers.servers import BIN, Server

# A POST without a body has to say that it is JSON, for which OpenAPI has no words; and for methods that the API doesn't
# have it is the page at "/" that answers, with 404 or with the methods of its own.
NOT_CHECKED = "positive_data_acceptance,unsupported_method,allow_header_conformance"


def test_every_answer_is_one_that_the_document_knows(tmp_path: Path) -> None:
    with Server("uvicorn-asyncio-h11", "tests.hostile.demo_app:app", tmp_path, DEMO_FOLDER=str(tmp_path)) as server:
        command = [
            *(str(BIN / "schemathesis"), "run", f"http://127.0.0.1:{server.port}/openapi.json"),
            *("--seed", "1", "--max-examples", "3", "--no-shrink", "--request-timeout", "10"),
            *("--suppress-health-check", "all", "--exclude-checks", NOT_CHECKED),
        ]
        run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    selected = re.search(r"Selected: (\d+)/(\d+)\n +Tested: (\d+)\n", run.stdout)
    assert selected
    assert len(set(selected.groups())) == 1
    [generated] = re.findall(r"(\d+) generated, \d+ passed\n", run.stdout)
    assert int(generated) > 100
    assert "Traceback" not in server.log

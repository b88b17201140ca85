"""The demo with streams that come to an end: a tool that reads whole responses can read them."""

import os
from pathlib import Path

from tidings.demo.app import create_app
from tidings.demo.feed import Feed
from tidings.demo.settings import Settings

Feed.max_events = 3
Feed.max_duration = 0.1

folder = Path(os.environ["DEMO_FOLDER"])
log = folder / "harbour.log"
log.write_text("ship 1\nship 2\nship 3\n")

app = create_app(Settings(folder=folder, port=0, log=log, own_log=False, local=True))

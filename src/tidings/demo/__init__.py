"""The application behind `tidings demo`: the machine it runs on, streamed to one page."""

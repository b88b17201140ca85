"""Soak and chaos: `python -m soak` has clients read and publishers publish while a hand breaks what it can.

`settings.py` is what can be set, and `schedule.py` what is broken when: both are values. `ledger.py` and `answers.py`
are the accounting, without any input or output. `processes.py`, `proxy.py` and `http.py` are what is run and spoken;
`app.py` is what the workers serve. `clients.py`, `publishers.py` and `writing.py` are those who use it, and `hand.py`
breaks it. `run.py` brings them together on one storage, and `report.py` says what came of it.
"""

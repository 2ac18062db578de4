"""The drill: a generated service under load, while everything it depends on goes wrong.

A service with all backends is generated and installed, and run as in production, as a process of
its own with its defaults. Its backends are real servers, which are really killed and frozen, while
a bounded load measures what clients see. `bounds.py` says what they must see.

    PYTHONPATH=tests .venv/bin/python -m drill            prints the table
    PYTHONPATH=tests .venv/bin/python -m drill --write    puts it into benchmarks/results/ as well

`scenario.py` and what it imports run on the Python of the generated service, which has the clients
of all backends; `__main__.py`, `run.py` and `report.py` run on ours.
"""

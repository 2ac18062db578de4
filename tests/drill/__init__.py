"""The drill: a generated service under load, while everything it depends on goes wrong.

A service with all backends is generated and installed, and runs as in production, as a process of
its own with its defaults. Its backends are real servers. They are killed, frozen and misconfigured,
while a steady load measures what clients see. Each part says what they must see.

    make drill            fails when a bound is not kept
    make drill WRITE=1    prints the table, and puts it into benchmarks/results/

`scenario.py` and what it imports run on the Python of the generated service, which has the clients
of all backends. `__main__.py`, `run.py` and `report.py` run on ours.
"""

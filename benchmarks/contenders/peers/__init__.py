"""Notes and counters as other templates would have them, in the idiom of each.

`benchmarks/peers.py` generates the projects, and puts these modules into them.
"""

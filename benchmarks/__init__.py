"""What the generated service costs, beside others; `make bench` runs it."""

"""Tests of the feature `tracing`."""

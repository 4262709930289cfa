"""The one limit of tests that wait for something real: it ends a hang and measures nothing."""

HANG_SECONDS = 120.0
"""A step of a test that takes longer hangs. A suite under `nice -n 19` beside a busy loop on every core stays below."""

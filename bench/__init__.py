"""Promises with numbers: one script each, run as `python -m bench.NAME [--quick] --json FILE`."""

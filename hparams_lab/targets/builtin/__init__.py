"""Domains ready to run: `digits` (embedded data, no network) and `mnist`."""

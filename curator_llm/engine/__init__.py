"""Sending: one engine per process, one line per quota scope, transports below. Knows neither rows nor Dask."""

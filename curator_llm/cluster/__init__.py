"""Stages on Dask: frames, partitions, workers. The only room that knows Dask."""

"""Stages on pandas frames. The only room that knows pandas; knows no Dask."""

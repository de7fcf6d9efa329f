"""A data engineer adds one step to a Dask pipeline: two replicas of a model, two worker processes, Parquet to Parquet.

Run as ``python pipeline_engineer.py REPLICA_URL REPLICA_URL``.
"""

from __future__ import annotations

import sys

import dask.dataframe as dd
import pandas as pd
from distributed import Client

from curator_llm import Endpoint, QueryModel


def main() -> None:
    pd.DataFrame({"id": range(600), "text": [f"document {n}" for n in range(600)]}).to_parquet("docs.parquet")
    replicas = Endpoint("qwen3-32b", base_url=sys.argv[1:], name="qwen3-32b fleet", max_concurrent_requests=64)
    summarise = QueryModel(
        replicas,
        prompt="Summarise in one sentence: {text}",
        output="summary",
        generation={"max_tokens": 64, "temperature": 0},
        journal="journal",
    )

    with Client(n_workers=2, threads_per_worker=2, dashboard_address=None):
        docs = dd.read_parquet("docs.parquet").repartition(npartitions=8)
        summaries = summarise(docs)
        print("lazy:", summaries.npartitions, "partitions,", ", ".join(summaries.columns))

        summaries.to_parquet("tagged/", write_index=False)
        tagged = dd.read_parquet("tagged/")
        print("written:", len(tagged), "rows")

        failed = summaries[summaries["summary__status"] != "ok"]
        print("not ok:", len(failed))
        print(summaries.llm.summary("summary"))

        plain = docs.map_partitions(summarise, meta=summarise.meta(docs))
        pd.testing.assert_frame_equal(plain.compute(), summaries.compute())
        print("the plain Dask way gives the equal frame")


if __name__ == "__main__":
    main()

"""Print where the result of job.yaml lies, how its rows ended, and the first of them."""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path

import pandas as pd

STAGES = ("summary", "label")


def main() -> None:
    """Read the result and print it."""
    parser = argparse.ArgumentParser(description="Show the result of the docstrings job.")
    parser.add_argument("--output", type=Path, default=Path("build/docstrings/out"), help="default: %(default)s")
    parser.add_argument("--rows", type=int, default=5, help="default: %(default)s")
    arguments = parser.parse_args()

    result = pd.read_parquet(arguments.output)
    print(f"\n{len(result)} rows in {arguments.output}/ (Parquet; columns {', '.join(result.columns)})")
    for stage in STAGES:
        counts = result[f"{stage}__status"].value_counts()
        print(f"{stage}: " + " · ".join(f"{status} {count}" for status, count in counts.items()))
    for row in result.head(arguments.rows).to_dict("records"):
        label = "no label" if pd.isna(row["label"]) else row["label"]
        summary = "no summary" if pd.isna(row["summary"]) else " ".join(row["summary"].split())
        print(f"\n{row['id']}  [{label}]")
        print(textwrap.fill(summary, width=100, initial_indent="    ", subsequent_indent="    "))


if __name__ == "__main__":
    main()

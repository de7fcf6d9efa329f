"""A researcher tries a prompt on a sample, changes it, labels everything, and looks at what went wrong.

Run as ``python researcher.py SERVER_URL``.
"""

from __future__ import annotations

import sys

import dask.dataframe as dd
import pandas as pd
from pydantic import BaseModel

from curator_llm import Endpoint, QueryModel, QueryRewardModel


class Facts(BaseModel):
    """What is wanted of each text."""

    topic: str
    mood: str


def main() -> None:
    model = Endpoint("some-model", base_url=sys.argv[1], max_concurrent_requests=32, price_usd=(0.4, 1.6))
    reviews = pd.DataFrame({"text": [None if n % 50 == 7 else f"review {n}" for n in range(300)]})
    generation = {"max_tokens": 16, "temperature": 0}

    first = QueryModel(model, prompt="Mood of: {text}", output="mood", generation=generation)
    print(reviews.llm.preview(first, n=4)[["messages", "reply", "status"]].to_string())

    second = QueryModel(
        model, prompt="Good or bad? {text}", output="mood", choices=["good", "bad"], generation=generation
    )
    print(reviews.llm.compare({"free": first, "fixed": second}, n=4)[["changed", "free", "fixed"]].to_string())

    labelled = second(reviews)
    print(labelled["mood"].value_counts().to_string())
    print(labelled.llm.summary())
    again = second(dd.from_pandas(reviews, npartitions=6)).compute(scheduler="threads")
    print("the same on Dask:", again["mood"].equals(labelled["mood"]))

    facts = reviews.head(3).llm.query_model(
        model, prompt="Facts of: {text}", output="facts", generation={"response_format": Facts, "temperature": 0}
    )
    print(Facts.model_validate_json(facts["facts"][1]))

    chats = pd.DataFrame({"chat": [[{"role": "user", "content": text}] for text in ("Hi", "Why?")]})
    judge = Endpoint("a-reward-model", base_url=sys.argv[1])
    scored = QueryRewardModel(judge, messages="chat", output="reward")(chats)
    print(scored["reward__helpfulness"].notna().tolist())


if __name__ == "__main__":
    main()

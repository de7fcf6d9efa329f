"""Clients of users on a cluster: four ways to one server give one frame, and a worker makes each client once."""

from __future__ import annotations

import textwrap

import dask.dataframe as dd
import pandas as pd
import pytest
from distributed import Client, LocalCluster

from curator_llm import Endpoint, QueryModel, QueryRewardModel
from curator_llm.errors import ConfigurationError
from curator_llm.testing import FakeServer, answer_to

KEY = "sk-CANARY-c1a5"
HOUSE = """
    import os
    import threading

    import openai

    from curator_llm.services import AsyncOpenAIClient, LLMClient, OpenAIClient

    made = []


    def _made(client):
        made.append((type(client).__name__, threading.get_ident()))
        return client


    def _sdk():
        return {"api_key": os.environ["TEAM_KEY"], "base_url": os.environ["TEAM_URL"], "max_retries": 0}


    def azure():
        return _made(openai.AsyncAzureOpenAI(
            api_key=os.environ["TEAM_KEY"], azure_endpoint=os.environ["TEAM_URL"], api_version="2024-10-21"
        ))


    def bearer():
        return _made(openai.AsyncOpenAI(**_sdk()))


    def wrapped():
        return _made(AsyncOpenAIClient(openai.AsyncOpenAI(**_sdk())))


    class OwnClient(LLMClient):
        def __init__(self):
            self.inner = OpenAIClient(openai.OpenAI(**_sdk()))
            _made(self)

        def query_model(self, *, messages, model, **parameters):
            return self.inner.query_model(messages=messages, model=model, **parameters)

        def query_reward_model(self, *, messages, model):
            return self.inner.query_reward_model(messages=messages, model=model)
"""


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """Write a user's module."""
    place = tmp_path_factory.mktemp("house")
    (place / "house_on_workers.py").write_text(textwrap.dedent(HOUSE))
    return str(place)


@pytest.fixture(scope="module")
def workers(house):
    with (
        LocalCluster(n_workers=2, threads_per_worker=4, processes=True, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):

        def take(place: str) -> None:
            import sys

            sys.path.insert(0, place)

        client.run(take, house)
        yield client


def tell(workers: Client, url: str) -> None:
    """Give the workers address and key, and forget what they made before."""

    def take(url: str, key: str, dask_worker) -> None:
        import os
        import sys

        os.environ.update(TEAM_URL=url, TEAM_KEY=key)
        if "house_on_workers" in sys.modules:
            sys.modules["house_on_workers"].made.clear()

    workers.run(take, url, KEY)


def made_by(workers: Client) -> list[list[str]]:
    def look() -> list[str]:
        from house_on_workers import made

        return [kind for kind, _ in made]

    return list(workers.run(look).values())


def rows(count: int, npartitions: int) -> dd.DataFrame:
    return dd.from_pandas(pd.DataFrame({"text": [f"row {n}" for n in range(count)]}), npartitions=npartitions)


def test_azure_bearer_keyless_and_a_client_of_ones_own_give_equal_frames(workers, tmp_path):
    with FakeServer() as keyless, FakeServer(api_key=KEY) as server:
        tell(workers, server.base_url)
        endpoints = {
            "keyless": Endpoint("m", base_url=keyless.base_url),
            "key": Endpoint("m", base_url=server.base_url, api_key="env:TEAM_KEY"),
            "bearer": Endpoint("m", client="house_on_workers:bearer"),
            "wrapped": Endpoint("m", client="house_on_workers:wrapped"),
            "azure": Endpoint("m", client="house_on_workers:azure"),
            "own": Endpoint("m", client="house_on_workers:OwnClient"),
        }
        ddf = rows(80, 8)
        frames = {}
        for name, endpoint in endpoints.items():
            run = QueryModel(
                endpoint, prompt="{text}", output="a", generation={"temperature": 0}, journal=str(tmp_path / name)
            )
            frames[name] = run(ddf).compute()
        assert frames["key"]["a"].tolist() == [answer_to(text) for text in frames["key"]["text"]]
        for frame in frames.values():
            pd.testing.assert_frame_equal(frame, frames["key"])
        paths = {seen.path for seen in server.ledger.seen}
        assert "/v1/openai/deployments/m/chat/completions" in paths
        assert server.ledger.requests == 5 * 80
        assert [sorted(kinds) for kinds in made_by(workers)] == [
            ["AsyncAzureOpenAI", "AsyncOpenAI", "AsyncOpenAIClient", "OwnClient"]
        ] * 2


def test_a_client_is_made_once_per_worker_by_stages_and_threads_that_start_together(workers, tmp_path):
    with FakeServer(api_key=KEY) as server:
        tell(workers, server.base_url)

        def rename() -> None:  # a worker keeps what it made under the name of another test
            import house_on_workers

            house_on_workers.Fresh = house_on_workers.OwnClient

        workers.run(rename)
        fresh = Endpoint("m", client="house_on_workers:Fresh")
        reward = Endpoint("reward", client="house_on_workers:Fresh", timeout="1min")
        ask = QueryModel(fresh, prompt="{text}", output="a", journal=str(tmp_path / "j"))
        score = QueryRewardModel(reward, messages="chat", output="r", journal=str(tmp_path / "j"))
        ddf = rows(160, 16)
        ddf["chat"] = ddf["text"].map(
            lambda text: f'[{{"role": "user", "content": "{text}"}}, {{"role": "assistant", "content": "yes"}}]',
            meta=("chat", "string[pyarrow]"),
        )
        out = score(ask(ddf)).compute()
        assert set(out["a__status"]) == set(out["r__status"]) == {"ok"}
        assert made_by(workers) == [["OwnClient"], ["OwnClient"]]


def test_a_module_that_workers_do_not_have_stops_the_run_and_says_so(workers, tmp_path):
    stage = QueryModel(
        Endpoint("m", client="no_such_house:make"), prompt="{text}", output="a", journal=str(tmp_path / "j")
    )
    lazy = stage(rows(4, 2))  # a graph needs no client
    with pytest.raises(ConfigurationError, match=r"no module 'no_such_house'.* importable on every worker"):
        lazy.compute()

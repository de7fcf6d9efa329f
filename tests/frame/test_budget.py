"""A stage with a budget."""

from __future__ import annotations

import pandas as pd
import pytest

from curator_llm import Budget, Endpoint, QueryModel, runtime
from curator_llm.engine.spending import read_book
from curator_llm.errors import ConfigurationError
from curator_llm.testing import FakeServer, faults_named_in_prompt, seeded_faults
from curator_llm.testing.answers import answer_to

PRICE = (1.0, 10.0)


def stage(server, *, name=None, generation=None, **limits):
    endpoint = Endpoint("m", base_url=server.base_url, max_concurrent_requests=16, price_usd=PRICE)
    return QueryModel(
        endpoint,
        prompt="{text}",
        output="a",
        generation={"max_tokens": 8} if generation is None else generation,
        details=True,
        budget=Budget(name=name, **limits),
    )


def rows(count: int) -> pd.DataFrame:
    return pd.DataFrame({"text": [f"row {n}" for n in range(count)]})


def usd(ledger) -> float:
    return (ledger.input_tokens * PRICE[0] + ledger.output_tokens * PRICE[1]) / 1e6


def test_at_its_end_rows_are_not_attempted_the_others_are_answered_and_nothing_is_raised(server):
    out = stage(server, max_requests=30)(rows(100))
    assert out["a__status"].value_counts().to_dict() == {"not_attempted": 70, "ok": 30}
    good = out[out["a__status"] == "ok"]
    assert good["a"].tolist() == [answer_to(text) for text in good["text"]]
    left = out[out["a__status"] == "not_attempted"]
    assert (
        left["a__error"]
        .str.fullmatch(r"budget: the budget 'a-\w{8}' of 30 requests is reached: raise it and run again")
        .all()
    )
    assert left["a"].isna().all()
    assert server.ledger.requests == 30


def test_it_is_the_total_of_all_runs_and_a_raised_one_goes_on(server):
    frame = rows(100)
    stage(server, max_requests=30)(frame)
    runtime.close()
    stage(server, max_requests=30)(frame)
    assert server.ledger.requests == 30
    assert (stage(server, max_requests=50)(frame)["a__status"] == "ok").sum() == 50
    assert (stage(server, max_requests=500)(frame)["a__status"] == "ok").all()
    assert server.ledger.requests == 100


@pytest.mark.parametrize("limits", [{"max_cost_usd": 0.02}, {"max_total_tokens": 2_500}])
def test_the_servers_bill_never_exceeds_it_and_most_of_it_is_used(limits):
    kinds = ["http:500", "http:502", "retry_after_ms:5"]
    with FakeServer(faults=seeded_faults(kinds, rate=0.1, seed=3, attempts=2)) as server:
        out = stage(server, **limits)(rows(1_000))
        ledger = server.ledger
        spent, limit = (
            (usd(ledger), 0.02) if "max_cost_usd" in limits else (ledger.input_tokens + ledger.output_tokens, 2_500)
        )
        assert 0.85 * limit < spent <= limit
        assert {"ok", "not_attempted"} <= set(out["a__status"])


def test_what_a_server_broke_off_counts_as_charged_at_the_worst(server):
    with FakeServer(faults=faults_named_in_prompt) as server:
        run = stage(server, name="mine", max_total_tokens=100_000)
        frame = pd.DataFrame({"text": ["reset@1: x", "http:500@1: y"]})
        out = run(frame)
        runtime.close()
        book = read_book(run.spec.journal_directory(), "mine")
        worst = len(b'{"model":"m","messages":[{"role":"user","content":"reset@1: x"}],"max_tokens":8}') + 8
        said = out["a__input_tokens"].sum() + out["a__output_tokens"].sum()
        assert book.taken["tokens"] == worst + said
        assert book.taken["requests"] == 4


def test_a_row_that_was_asked_and_may_not_be_asked_again_has_failed_and_its_cost_is_kept():
    with FakeServer(faults=lambda *_: "reset") as server:
        run = stage(server, name="mine", max_requests=1)
        out = run(rows(1))
        assert out["a__status"].tolist() == ["failed"]
        assert out["a__error"].tolist()[0].startswith("budget: ")
        assert out["a__attempts"].tolist() == [1]
        assert server.ledger.requests == 1


def test_stages_that_name_one_budget_share_it_and_prompts_that_differ_have_their_own(server):
    frame = rows(20)
    assert (stage(server, name="ours", max_requests=12)(frame)["a__status"] == "ok").sum() == 12
    other = stage(server, name="ours", max_requests=15, generation={"max_tokens": 9})
    assert (other(frame)["a__status"] == "ok").sum() == 3
    alone = stage(server, max_requests=15, generation={"max_tokens": 10})
    assert (alone(frame)["a__status"] == "ok").sum() == 15


def test_a_plan_names_the_ceiling(server, capsys):
    stage(server, max_cost_usd=50, max_requests=1_000)(rows(1))
    assert "max under $0.0001, ceiling $50.00 and 1,000 requests" in capsys.readouterr().err.splitlines()[0]


def test_a_journal_that_has_the_replies_is_free_when_nothing_is_left(server):
    frame = rows(10)
    stage(server, max_requests=10)(frame)
    assert (stage(server, max_requests=10)(frame)["a__status"] == "ok").all()


def test_workers_that_share_a_budget_keep_to_it_together(server):
    import dask.dataframe as dd
    from distributed import Client, LocalCluster

    frame = rows(200)
    with (
        LocalCluster(n_workers=2, threads_per_worker=2, processes=False, dashboard_address=None) as cluster,
        Client(cluster),
    ):
        out = stage(server, max_requests=60)(dd.from_pandas(frame, npartitions=8)).compute()
    assert (out["a__status"] == "ok").sum() == server.ledger.requests == 60


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"generation": {}, "budget": Budget(max_cost_usd=1)}, "needs an end to each reply"),
        ({"generation": {}, "budget": Budget(max_total_tokens=1)}, "needs an end to each reply"),
        (
            {"endpoint": Endpoint("m", base_url="http://localhost/v1"), "budget": Budget(max_cost_usd=1)},
            "needs a price",
        ),
        ({"journal": False, "budget": Budget(max_requests=1)}, "drop journal=False"),
    ],
)
def test_a_budget_that_cannot_be_kept_is_refused_when_the_stage_is_built(arguments, said):
    endpoint = Endpoint("m", base_url="http://localhost/v1", price_usd=PRICE)
    given = {"endpoint": endpoint, "prompt": "{text}", "generation": {"max_tokens": 8}, **arguments}
    with pytest.raises(ConfigurationError, match=said):
        QueryModel(**given)


def test_requests_alone_need_neither_a_price_nor_an_end(server):
    endpoint = Endpoint("m", base_url=server.base_url)
    out = QueryModel(endpoint, prompt="{text}", output="a", budget=Budget(max_requests=2))(rows(3))
    assert (out["a__status"] == "ok").sum() == 2

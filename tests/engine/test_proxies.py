"""Proxies of corporate networks: which one is used, and what is said when one is in the way."""

from __future__ import annotations

import sys
import types

import dask
import openai
import pandas as pd
import pytest

from curator_llm import Endpoint, QueryModel, runtime
from curator_llm.errors import EndpointUnreachableError
from curator_llm.testing import FakeServer
from curator_llm.testing.relays import ForwardProxy

NOWHERE = "http://127.0.0.1:1"
PASSWORD = "CANARY-5f0e"


def ask(base_url: str, **endpoint) -> pd.DataFrame:
    run = QueryModel(Endpoint("m", base_url=base_url, **endpoint), prompt="{text}", output="a")
    return run(pd.DataFrame({"text": ["x", "y"]}))


@pytest.fixture(autouse=True)
def own_engine():
    with dask.config.set({"curator-llm.engine.unreachable-after": "100ms"}):
        runtime.close()
        yield
        runtime.close()


def test_a_proxy_that_is_named_is_used():
    with FakeServer() as server, ForwardProxy() as proxy:
        assert set(ask(server.base_url, proxy=proxy.url)["a__status"]) == {"ok"}
        assert proxy.asked[0] == f"POST {server.base_url}/chat/completions HTTP/1.1"


def test_the_environments_proxy_is_used_when_asked_for(server, monkeypatch):
    with ForwardProxy() as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        assert set(ask(server.base_url)["a__status"]) == {"ok"}
        assert proxy.asked == []
        assert set(ask(server.base_url, proxy="env", name="another")["a__status"]) == {"ok"}
        assert proxy.asked != []


@pytest.mark.parametrize("endpoint", [{}, {"proxy": None, "api_key": "env:TEAM_KEY"}])
def test_no_proxy_of_the_environment_hears_of_a_request(endpoint, server, monkeypatch):
    monkeypatch.setenv("TEAM_KEY", "sk-CANARY-012345")
    with ForwardProxy() as proxy:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
            monkeypatch.setenv(name.lower(), proxy.url)
        monkeypatch.setenv("NO_PROXY", "")
        assert set(ask(server.base_url, **endpoint)["a__status"]) == {"ok"}
        with pytest.raises(EndpointUnreachableError):
            ask("https://127.0.0.1:1/v1", **endpoint)
        assert proxy.asked == []


@pytest.mark.parametrize(
    ("base_url", "variable"),
    [(f"{NOWHERE}/v1", "HTTP_PROXY"), (f"{NOWHERE}/v1", "all_proxy"), ("https://127.0.0.1:1/v1", "HTTPS_PROXY")],
)
def test_a_server_out_of_reach_beside_a_proxy_that_is_not_used_names_variable_and_switch(
    base_url, variable, monkeypatch
):
    monkeypatch.setenv(variable, f"http://user:{PASSWORD}@proxy.example:3128")
    with pytest.raises(
        EndpointUnreachableError, match=f"{variable} is set and not used: proxy='env' uses it"
    ) as caught:
        ask(base_url)
    assert PASSWORD not in str(caught.value)


def test_a_variable_for_another_scheme_is_not_named(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    with pytest.raises(EndpointUnreachableError) as caught:
        ask(f"{NOWHERE}/v1")
    assert "proxy" not in str(caught.value).lower()


@pytest.mark.parametrize("base_url", ["http://127.0.0.1:5/v1", "https://127.0.0.1:5/v1"])
def test_a_proxy_out_of_reach_is_named(base_url):
    with pytest.raises(EndpointUnreachableError, match=rf"connect: .* The proxy is {NOWHERE}\."):
        ask(base_url, proxy=NOWHERE)


def test_a_proxy_of_the_environment_out_of_reach_is_named_by_its_variable(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", f"http://user:{PASSWORD}@127.0.0.1:1")
    with pytest.raises(EndpointUnreachableError, match=r"The proxy is that of HTTP_PROXY\.") as caught:
        ask("http://127.0.0.1:5/v1", proxy="env")
    assert PASSWORD not in str(caught.value)


def test_the_environments_proxy_where_there_is_none_is_said():
    with pytest.raises(EndpointUnreachableError, match="no variable names a proxy here"):
        ask(f"{NOWHERE}/v1", proxy="env")


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_asks_for_a_password_stops_the_run_at_once_and_is_named(scheme, server):
    with ForwardProxy(needs_password=True) as proxy:
        said = rf"The proxy {proxy.url} on the way to {scheme}://\S+ asks for a password \(407.*proxy='env'"
        with pytest.raises(EndpointUnreachableError, match=said):
            ask(server.base_url.replace("http", scheme), proxy=proxy.url)
        assert len(proxy.asked) == 1
    assert server.ledger.requests == 0


def test_a_proxy_of_the_environment_that_refuses_the_password_is_named_by_its_variable(server, monkeypatch):
    with ForwardProxy(needs_password=True) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url.replace("://", f"://user:{PASSWORD}@"))
        with pytest.raises(EndpointUnreachableError, match="The proxy of http_proxy on the way") as caught:
            ask(server.base_url, proxy="env")
    assert PASSWORD not in str(caught.value)


def test_a_server_that_the_proxy_does_not_reach_is_out_of_reach():
    with ForwardProxy() as proxy, pytest.raises(EndpointUnreachableError, match=r"\(connect: .* The proxy is http"):
        ask("https://127.0.0.1:1/v1", proxy=proxy.url)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_the_sdks_proxy_that_asks_for_a_password_stops_the_run_too(scheme, server, monkeypatch):
    module = types.ModuleType("house")
    monkeypatch.setitem(sys.modules, "house", module)
    with ForwardProxy(needs_password=True) as proxy:
        module.make = lambda: openai.AsyncOpenAI(
            base_url=server.base_url.replace("http", scheme),
            api_key="EMPTY",
            http_client=openai.DefaultAsyncHttpxClient(proxy=proxy.url),
        )
        run = QueryModel(Endpoint("m", client="house:make"), prompt="{text}", output="a")
        with pytest.raises(EndpointUnreachableError, match=r"A proxy on the way to the client of house:make .* \(407"):
            run(pd.DataFrame({"text": ["x"]}))

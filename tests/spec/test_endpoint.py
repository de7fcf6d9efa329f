"""What an Endpoint is, and what it refuses."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from dask.base import tokenize

from curator_llm import Endpoint, GenerationConfig
from curator_llm.errors import ConfigurationError

LOCAL = "http://localhost:8000/v1"
CANARY = "sk-CANARY-0123456789"


# --- address and key --------------------------------------------------------------------------------------------------
def test_the_default_is_the_openai_api_with_its_key() -> None:
    endpoint = Endpoint("gpt-4.1-mini")
    assert endpoint.base_url == "https://api.openai.com/v1"
    assert endpoint.api_key == "env:OPENAI_API_KEY"


def test_openai_base_url_is_the_default_and_gets_no_key_of_openai(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", LOCAL)
    endpoint = Endpoint("m")
    assert (endpoint.base_url, endpoint.api_key) == (LOCAL, None)


def test_an_empty_openai_base_url_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "")
    assert Endpoint("m").base_url == "https://api.openai.com/v1"


def test_the_address_is_taken_when_the_endpoint_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", LOCAL)
    packed = pickle.dumps(Endpoint("m"))
    monkeypatch.setenv("OPENAI_BASE_URL", "http://localhost:9999/v1")
    assert pickle.loads(packed).base_url == LOCAL


@pytest.mark.parametrize(
    "base_url",
    [
        LOCAL,
        "https://api.example.com/v1",
        "https://api.openai.com.example.com/v1",
        "https://api.openai.com:8443/v1",
        ["https://api.openai.com/v1", LOCAL],
    ],
)
def test_no_key_goes_elsewhere_unless_told(base_url: Any) -> None:
    assert Endpoint("m", base_url=base_url).api_key is None


@pytest.mark.parametrize("base_url", ["https://api.openai.com/v1", "https://API.OPENAI.COM:443/v1/"])
def test_the_openai_api_keeps_its_key_however_it_is_written(base_url: str) -> None:
    assert Endpoint("m", base_url=base_url).api_key == "env:OPENAI_API_KEY"


@pytest.mark.parametrize("word", ["EMPTY", "none", "Empty", ""])
def test_the_words_for_no_key_mean_no_key(word: str) -> None:
    assert Endpoint("m", api_key=word).api_key is None


@pytest.mark.parametrize("reference", ["env:MY_KEY", "file:~/.keys/vllm", "callable:vault.client:token"])
def test_a_key_reference_is_kept_as_it_is(reference: str) -> None:
    assert Endpoint("m", base_url=LOCAL, api_key=reference).api_key == reference


@pytest.mark.parametrize("argument", [{"api_key": CANARY}, {"headers": {"X-Api-Key": CANARY}}])
def test_a_key_itself_is_refused_with_the_two_fixes_and_not_repeated(argument: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=r"'env:NAME'.*'file:~/path'") as raised:
        Endpoint("m", base_url=LOCAL, **argument)
    assert "CANARY" not in str(raised.value)


def test_a_key_that_is_no_text_is_refused_and_not_repeated() -> None:
    with pytest.raises(ConfigurationError, match="`api_key` is a bytes") as raised:
        Endpoint("m", api_key=CANARY.encode())  # type: ignore[arg-type]
    assert "CANARY" not in str(raised.value)


@pytest.mark.parametrize(
    "name",
    ["Authorization", "X-API-Key", "api-token", "Cookie", "x-client-secret", "Proxy-Authorization", "x-password"],
)
def test_a_header_with_a_secret_needs_a_reference(name: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        Endpoint("m", base_url=LOCAL, headers={name: "CANARY0123456789"})
    assert f"headers[{name!r}]='env:NAME'" in str(raised.value)
    assert "CANARY" not in str(raised.value)
    assert Endpoint("m", base_url=LOCAL, headers={name: "env:MY_KEY"}).headers == {name.lower(): "env:MY_KEY"}


@pytest.mark.parametrize("value", [CANARY, "Bearer CANARY0123456789", "basic CANARY0123456789"])
def test_what_looks_like_a_key_is_refused_in_any_header(value: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        Endpoint("m", base_url=LOCAL, headers={"x-upstream": value})
    assert "CANARY" not in str(raised.value)


@pytest.mark.parametrize(
    "headers", [{"x y": "a"}, {"x": "a\r\nb: c"}, {"x": "ü"}, {"x": 5}, {5: "x"}, {"": "x"}, "x: y", ["x"]]
)
def test_headers_that_no_request_can_carry_are_refused(headers: Any) -> None:
    with pytest.raises(ConfigurationError, match="`headers`"):
        Endpoint("m", base_url=LOCAL, headers=headers)


@pytest.mark.parametrize("base_url", ["http://example.com/v1", [LOCAL, "http://example.com/v1"]])
def test_plain_http_to_a_public_host_needs_to_be_allowed(base_url: Any) -> None:
    with pytest.raises(ConfigurationError, match="allow_http=True"):
        Endpoint("m", base_url=base_url)
    assert Endpoint("m", base_url=base_url, allow_http=True).base_urls[-1] == "http://example.com/v1"


def test_a_password_in_the_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(ConfigurationError) as raised:
        Endpoint("m", base_url=f"https://user:{CANARY}@example.com/v1")
    assert "CANARY" not in str(raised.value)


@pytest.mark.parametrize("base_url", ["", [], 5, {"a": 1}, [5], ["nowhere"]])
def test_what_is_no_address_is_refused(base_url: Any) -> None:
    with pytest.raises(ConfigurationError, match="`base_url`"):
        Endpoint("m", base_url=base_url)


def test_a_list_of_addresses_is_replicas_in_the_order_given() -> None:
    endpoint = Endpoint("m", base_url=["http://a:8000/v1/", "http://b:8000/v1"])
    assert endpoint.base_urls == ("http://a:8000/v1", "http://b:8000/v1")
    assert endpoint.origins == ("http://a:8000", "http://b:8000")


@pytest.mark.parametrize("proxy", ["env", "http://proxy:3128", None])
def test_a_proxy_is_an_address_or_the_environments(proxy: str | None) -> None:
    assert Endpoint("m", proxy=proxy).proxy == proxy


@pytest.mark.parametrize("proxy", ["proxy:3128", f"http://user:{CANARY}@proxy:3128"])
def test_a_proxy_with_a_password_is_refused_and_not_repeated(proxy: str) -> None:
    with pytest.raises(ConfigurationError, match="proxy='env'") as raised:
        Endpoint("m", proxy=proxy)
    assert "CANARY" not in str(raised.value)


# --- identity and scope -----------------------------------------------------------------------------------------------
def test_who_answers_is_the_origin_by_default() -> None:
    assert Endpoint("m", base_url=LOCAL).identity == Endpoint("m", base_url="http://localhost:8000/other").identity
    assert Endpoint("m", base_url=LOCAL).identity.startswith("http://localhost:8000")


def test_of_replicas_the_first_names_who_answers() -> None:
    assert Endpoint("m", base_url=[LOCAL, "http://b/v1"]).identity == Endpoint("m", base_url=LOCAL).identity


def test_a_name_stands_for_the_address() -> None:
    moved = Endpoint("m", base_url="http://b:9000/v1", name="qwen-fleet")
    assert Endpoint("m", base_url=LOCAL, name="qwen-fleet").identity == moved.identity


@pytest.mark.parametrize(
    "argument",
    [{"name": "other"}, {"revision": "2"}, {"headers": {"x-tier": "b"}}, {"base_url": "http://localhost:9/v1"}],
)
def test_name_revision_headers_and_origin_tell_who_answers(argument: dict[str, Any]) -> None:
    assert Endpoint("m", **{"base_url": LOCAL, **argument}).identity != Endpoint("m", base_url=LOCAL).identity


@pytest.mark.parametrize(
    "argument",
    [
        {"api_key": "env:OTHER"},
        {"timeout": 5},
        {"max_concurrent_requests": 3},
        {"scope": "mine"},
        {"price_usd": (1, 2)},
        {"max_requests_per_minute": 7},
        {"row_deadline": "2h"},
        {"max_attempts": 2},
        {"proxy": "env"},
    ],
)
def test_keys_limits_and_prices_do_not_tell_who_answers(argument: dict[str, Any]) -> None:
    assert Endpoint("m", base_url=LOCAL, **argument).identity == Endpoint("m", base_url=LOCAL).identity


def test_headers_are_the_same_in_any_order_and_case() -> None:
    one = Endpoint("m", base_url=LOCAL, headers={"X-A": "1", "x-b": "2"})
    assert one == Endpoint("m", base_url=LOCAL, headers={"X-B": "2", "x-a": "1"})


def test_the_quota_is_that_of_origin_model_and_key() -> None:
    scopes = {
        Endpoint(model, base_url=url, api_key=key).limits.scope
        for model in ("m", "n")
        for url in (LOCAL, "http://b/v1")
        for key in ("env:A", "env:B", None)
    }
    assert len(scopes) == 12


def test_a_scope_of_ones_own_is_taken() -> None:
    assert Endpoint("m", scope="team").limits.scope == "team"


def test_limits_are_passed_on() -> None:
    limits = Endpoint("m", max_concurrent_requests=3, max_requests_per_minute=60, max_tokens_per_minute=1e5).limits
    assert (limits.max_concurrent_requests, limits.max_requests_per_minute, limits.max_tokens_per_minute) == (
        3,
        60,
        1e5,
    )


# --- the rest ---------------------------------------------------------------------------------------------------------
def test_the_defaults_are_those_of_the_documentation() -> None:
    endpoint = Endpoint("m")
    assert (endpoint.timeout, endpoint.row_deadline, endpoint.max_attempts) == (600.0, 3600.0, 5)
    assert endpoint.max_concurrent_requests == 256
    assert endpoint.limits.max_requests_per_minute is None


def test_durations_are_seconds_or_written_with_a_unit() -> None:
    endpoint = Endpoint("m", timeout="90s", row_deadline="2h")  # type: ignore[arg-type]
    assert (endpoint.timeout, endpoint.row_deadline) == (90.0, 7200.0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model", ""),
        ("model", None),
        ("model", "a\nb"),
        ("model", "\ud83d"),
        ("name", ""),
        ("revision", "\x00"),
        ("scope", 5),
        ("timeout", 0),
        ("row_deadline", "soon"),
        ("max_concurrent_requests", 0),
        ("max_concurrent_requests", 2.0),
        ("max_concurrent_requests", True),
        ("max_attempts", 0),
        ("max_requests_per_minute", 0),
        ("max_requests_per_minute", "10000"),
        ("max_tokens_per_minute", float("nan")),
        ("price_usd", 5.0),
        ("price_usd", (1,)),
        ("price_usd", "12"),
        ("price_usd", (1, -2)),
        ("price_usd", ("1", "2")),
    ],
)
def test_what_cannot_work_is_refused_at_once_with_its_name_and_value(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError) as raised:
        Endpoint(**{"model": "m", name: value})
    assert f"`{name}` is {value!r}: give" in str(raised.value)


@pytest.mark.parametrize("name", ["model", "messages", "stream", "n"])
def test_extra_body_cannot_set_what_the_stage_sets(name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"'{name}'"):
        Endpoint("m", extra_body={name: 1})


def test_extra_body_is_kept_in_one_order() -> None:
    assert list(Endpoint("m", extra_body={"b": 1, "a": 2}).extra_body or ()) == ["a", "b"]


# --- a client of one's own --------------------------------------------------------------------------------------------
def make_client() -> None:
    """Stand for a user's function."""


def test_a_client_has_no_address_and_names_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", LOCAL)
    endpoint = Endpoint("m", client="team.llm:make", price_usd=(1, 2), timeout="5s")
    assert (endpoint.base_url, endpoint.base_urls, endpoint.origins, endpoint.api_key) == (None, (), (), None)
    assert endpoint.identity == "client:team.llm:make\n"
    assert endpoint.limits.scope == "client:team.llm:make|m"
    assert endpoint.address == "the client of team.llm:make"
    assert repr(endpoint) == "Endpoint('m', client='team.llm:make', timeout=5.0, price_usd=(1.0, 2.0))"
    assert pickle.loads(pickle.dumps(endpoint)) == endpoint


def test_a_client_takes_a_name_a_revision_and_a_scope_like_an_address() -> None:
    endpoint = Endpoint("m", client="team.llm:make", name="fleet", revision="2", scope="team")
    assert (endpoint.identity, endpoint.limits.scope) == ("fleet\n2", "team")


@pytest.mark.parametrize(
    ("client", "said"),
    [
        (make_client, f"is the function 'make_client': give the text client='{__name__}:make_client'"),
        (pickle.Pickler, "is the class 'Pickler': give the text client='_pickle:Pickler'"),
        (lambda: None, "give the text client='pkg.mod:factory'"),
        (object(), "is of type object: a client holds a key"),
        (CANARY, "names no function: write client='pkg.mod:factory'"),
        ("", "names no function"),
        ("pkg.mod", "names no function"),
        ("pkg.mod:f()", "names no function"),
        (5, "is of type int"),
    ],
)
def test_a_client_is_text_and_anything_else_is_refused_with_the_text(client: Any, said: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        Endpoint("m", client=client)
    assert said in str(raised.value)
    assert "CANARY" not in str(raised.value)


@pytest.mark.parametrize(
    "argument",
    [
        {"base_url": LOCAL},
        {"api_key": "env:MY_KEY"},
        {"headers": {"x-a": "1"}},
        {"allow_http": True},
        {"ca_file": "ca.pem"},
        {"proxy": "env"},
    ],
)
def test_what_a_client_knows_by_itself_is_not_given_beside_it(argument: dict[str, Any]) -> None:
    (name,) = argument
    with pytest.raises(ConfigurationError, match=f"Leave `{name}` out"):
        Endpoint("m", client="team.llm:make", **argument)


# --- prices and looks -----------------------------------------------------------------------------------------------
def test_a_price_is_for_input_and_output() -> None:
    assert Endpoint("m", price_usd=[0.4, 2]).price_usd == (0.4, 2.0)  # type: ignore[arg-type]


def test_it_shows_on_one_line_what_differs_from_the_defaults_and_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", CANARY)
    endpoint = Endpoint("m", max_attempts=2, headers={"x-key": "env:OPENAI_API_KEY"})
    assert repr(endpoint) == (
        "Endpoint('m', base_url='https://api.openai.com/v1', api_key='env:OPENAI_API_KEY', max_attempts=2, "
        "headers={'x-key': 'env:OPENAI_API_KEY'})"
    )
    assert "CANARY" not in f"{endpoint} {endpoint.limits} {endpoint.identity}"
    assert b"CANARY" not in pickle.dumps(endpoint)


def test_it_travels_and_stays_equal() -> None:
    endpoint = Endpoint(
        "m", base_url=[LOCAL, "http://b/v1"], headers={"x-a": "1"}, extra_body={"k": [1]}, price_usd=(1, 2)
    )
    assert pickle.loads(pickle.dumps(endpoint)) == endpoint


def test_equal_endpoints_have_equal_tokens_in_dask_and_others_have_not() -> None:
    one = Endpoint("m", headers={"x-a": "1", "x-b": "2"}, extra_body={"b": 1, "a": {"y": 1, "x": 2}})
    same = Endpoint("m", headers={"x-b": "2", "x-a": "1"}, extra_body={"a": {"y": 1, "x": 2}, "b": 1})
    assert tokenize(one) == tokenize(same)
    assert tokenize(one) != tokenize(Endpoint("m", headers={"x-a": "1"}))


def test_it_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        Endpoint("m").model = "n"  # type: ignore[misc]


def test_a_notebook_shows_an_endpoint_as_a_table_with_references_for_keys(monkeypatch):
    monkeypatch.setenv("A_KEY", "canary-9c1f")
    shown = Endpoint("<m>", base_url="http://localhost:8000/v1", api_key="env:A_KEY")._repr_html_()
    assert "Endpoint &lt;m&gt;" in shown
    assert "env:A_KEY" in shown
    assert "canary" not in shown


def test_a_key_in_an_extra_body_is_refused_when_an_endpoint_or_a_stage_is_built() -> None:
    body = {"litellm": {"api_key": "CANARY-0123456789"}}
    for build in (lambda: Endpoint("m", extra_body=body), lambda: GenerationConfig(extra_body=body)):
        with pytest.raises(ConfigurationError, match=r"extra_body\.litellm\.api_key") as raised:
            build()
        assert "CANARY" not in str(raised.value)

"""Private certificate authorities, as corporate networks have them."""

from __future__ import annotations

import shutil
import ssl
import subprocess
import sys
import types

import openai
import pandas as pd
import pytest

from curator_llm import Endpoint, QueryModel, runtime
from curator_llm.errors import ConfigurationError, EndpointUnreachableError
from curator_llm.testing import FakeServer
from curator_llm.testing.relays import ForwardProxy

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="makes certificates with openssl")


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """Make an authority and a certificate of it for 127.0.0.1."""
    place = tmp_path_factory.mktemp("tls")
    (place / "names").write_text("subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n")
    for command in (
        "req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=house-authority",
        "req -newkey rsa:2048 -nodes -keyout leaf.key -out leaf.csr -subj /CN=leaf",
        "x509 -req -in leaf.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out leaf.pem",
        "req -x509 -newkey rsa:2048 -nodes -keyout other.key -out other.pem -days 2 -subj /CN=other-authority",
    ):
        subprocess.run(["openssl", *command.split()], cwd=place, check=True, capture_output=True)
    return place


@pytest.fixture
def https(authority):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(authority / "leaf.pem", authority / "leaf.key")
    with FakeServer(ssl=context) as server:
        yield server


def ask(base_url: str, **endpoint) -> pd.DataFrame:
    run = QueryModel(Endpoint("m", base_url=base_url, **endpoint), prompt="{text}", output="a")
    return run(pd.DataFrame({"text": ["x", "y"]}))


def test_a_private_authority_is_trusted_when_named(https, authority):
    assert ask(https.base_url, ca_file=str(authority / "ca.pem"))["a__status"].tolist() == ["ok", "ok"]


def test_an_unknown_authority_stops_the_run_and_names_the_switch(https):
    with pytest.raises(EndpointUnreachableError, match=r"is not trusted .* ca_file='its.pem'"):
        ask(https.base_url)
    assert https.ledger.requests == 0


def test_a_ca_file_that_is_none_is_an_error(https, tmp_path):
    with pytest.raises(ConfigurationError, match="give a PEM file"):
        ask(https.base_url, ca_file=str(tmp_path / "missing.pem"))


def test_a_proxy_passes_tls_through(https, authority):
    with ForwardProxy() as proxy:
        out = ask(https.base_url, ca_file=str(authority / "ca.pem"), proxy=proxy.url)
        assert out["a__status"].tolist() == ["ok", "ok"]
        assert proxy.asked[0] == f"CONNECT 127.0.0.1:{https.port} HTTP/1.1"


def test_a_proxy_that_opens_tls_and_is_not_trusted_stops_the_run_and_names_the_switch(https):
    with (
        ForwardProxy(opens_tls_as=https.base_url) as proxy,
        pytest.raises(EndpointUnreachableError, match=r"or a proxy that opens TLS .* pass ca_file='its.pem'"),
    ):
        ask("https://127.0.0.1:1/v1", proxy=proxy.url)
    assert https.ledger.requests == 0


def test_a_proxy_that_opens_tls_is_trusted_when_its_authority_is_named(https, authority):
    with ForwardProxy(opens_tls_as=https.base_url) as proxy:
        out = ask("https://127.0.0.1:1/v1", proxy=proxy.url, ca_file=str(authority / "ca.pem"))
        assert out["a__status"].tolist() == ["ok", "ok"]


def test_another_authority_than_the_servers_is_not_trusted(https, authority):
    with pytest.raises(EndpointUnreachableError, match="is not trusted"):
        ask(https.base_url, ca_file=str(authority / "other.pem"))


@pytest.mark.parametrize("trusted", [False, True])
def test_the_sdks_client_trusts_what_its_http_client_does_and_the_message_says_so(
    trusted, https, authority, monkeypatch
):
    module = types.ModuleType("house")
    monkeypatch.setitem(sys.modules, "house", module)
    verify = ssl.create_default_context(cafile=authority / ("ca.pem" if trusted else "other.pem"))
    module.make = lambda: openai.AsyncOpenAI(
        base_url=https.base_url, api_key="EMPTY", http_client=openai.DefaultAsyncHttpxClient(verify=verify)
    )
    run = QueryModel(Endpoint("m", client="house:make"), prompt="{text}", output="a")
    runtime.close()
    if trusted:
        assert run(pd.DataFrame({"text": ["x"]}))["a__status"].tolist() == ["ok"]
    else:
        with pytest.raises(EndpointUnreachableError, match=r"is not trusted .* http_client with verify=ssl\."):
            run(pd.DataFrame({"text": ["x"]}))
    runtime.close()

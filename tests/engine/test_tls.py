"""Private certificate authorities, as corporate networks have them."""

from __future__ import annotations

import shutil
import ssl
import subprocess

import pandas as pd
import pytest

from curator_llm import Endpoint, QueryModel
from curator_llm.errors import ConfigurationError, EndpointUnreachableError
from curator_llm.testing import FakeServer

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

"""What a base URL may be."""

from __future__ import annotations

import pytest

from curator_llm.errors import ConfigurationError
from curator_llm.spec.addresses import check_base_url, is_private, origin_of

SECRET = "hunter2-canary"


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST",
        "gpu7",
        "127.0.0.1",
        "127.9.9.9",
        "::1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.4",
        "169.254.1.1",
        "fd00::1",
        "fe80::1",
        "::ffff:10.0.0.1",
        "vllm.ml.svc",
        "vllm.ml.svc.cluster.local",
        "box.internal",
        "box.internal.",
    ],
)
def test_loopback_private_dotless_and_site_names_are_private(host: str) -> None:
    assert is_private(host)


@pytest.mark.parametrize(
    "host",
    [
        "example.com",
        "8.8.8.8",
        "2001:4860:4860::8888",
        "::ffff:8.8.8.8",
        "172.32.0.1",
        "svc.example.com",
        "internal.example.org",
        "134744072",
        "0x08080808",
        "8.8",
    ],
)
def test_all_else_is_public_also_an_address_written_as_a_number(host: str) -> None:
    assert not is_private(host)


def test_plain_http_to_a_private_host_is_taken() -> None:
    assert check_base_url("http://vllm.ml.svc:8000/v1/", allow_http=False) == "http://vllm.ml.svc:8000/v1"


def test_plain_http_to_a_public_host_is_refused_with_both_ways_out() -> None:
    with pytest.raises(ConfigurationError, match=r"'example\.com'.*https.*allow_http=True"):
        check_base_url("http://example.com/v1", allow_http=False)


def test_plain_http_to_a_public_host_is_taken_when_allowed() -> None:
    assert check_base_url("http://example.com/v1", allow_http=True) == "http://example.com/v1"


def test_https_goes_anywhere() -> None:
    assert check_base_url("https://example.com", allow_http=False) == "https://example.com"


@pytest.mark.parametrize(
    "url",
    [
        f"https://user:{SECRET}@example.com/v1",
        f"https://{SECRET}@example.com/v1",
        f"http://user:{SECRET}@[::1/v1",
        f"http://user:{SECRET}@localhost:port/v1",
        f"http://user:pa/ss{SECRET}@localhost/v1",
        f"user:{SECRET}@example.com/v1",
        f"ftp://user:{SECRET}@example.com",
    ],
)
def test_a_user_name_or_password_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ConfigurationError, match="user name or password") as raised:
        check_base_url(url, allow_http=False)
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize("tail", [f"?key={SECRET}", f"#{SECRET}", "?", "#"])
def test_a_query_or_fragment_is_refused_and_not_repeated(tail: str) -> None:
    with pytest.raises(ConfigurationError, match=r"after 'https://example\.com/v1'") as raised:
        check_base_url("https://example.com/v1" + tail, allow_http=False)
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:8000",
        "ftp://localhost/v1",
        "file:///etc/passwd",
        "http://",
        "http:///v1",
        "http://local host/v1",
        "http://localhost/v1\n",
        "\x01http://localhost/v1",
        "http://localhost:99999/v1",
        "http://[::1/v1",
        "http://evil%2ecom/v1",
        "http://localhost\\.example.com/v1",
    ],
)
def test_what_is_no_http_url_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="give a URL such as"):
        check_base_url(url, allow_http=False)


def test_an_at_sign_in_the_path_is_no_user_name() -> None:
    url = "https://example.com/v1/models/m@2026"
    assert check_base_url(url, allow_http=False) == url


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://api.openai.com/v1", "https://api.openai.com"),
        ("https://API.OpenAI.com:443/v1", "https://api.openai.com"),
        ("http://localhost:80", "http://localhost"),
        ("http://localhost:8000/v1", "http://localhost:8000"),
        ("http://[::1]:8000/v1", "http://[::1]:8000"),
    ],
)
def test_an_origin_is_scheme_host_and_port_without_the_default_port(url: str, origin: str) -> None:
    assert origin_of(url) == origin


@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254",
        "[::ffff:169.254.169.254]",
        "[fd00:ec2::254]",
        "100.100.100.200",
        "metadata",
        "METADATA.google.internal.",
    ],
)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_where_a_cloud_keeps_credentials_is_refused_also_when_http_is_allowed(scheme: str, host: str) -> None:
    with pytest.raises(ConfigurationError, match="get their credentials"):
        check_base_url(f"{scheme}://{host}/v1", allow_http=True)


def test_a_key_in_the_path_is_refused_and_not_repeated() -> None:
    with pytest.raises(ConfigurationError, match=r"api_key='env:NAME'.*client='pkg\.mod:factory'") as raised:
        check_base_url(f"https://example.com/sk-{SECRET}/v1", allow_http=False)
    assert SECRET not in str(raised.value)


def test_a_path_that_is_no_key_is_taken() -> None:
    url = "https://example.com/task-specific/models/sk/v1"
    assert check_base_url(url, allow_http=False) == url

"""Keys, resolved where they are used, and never shown."""

from __future__ import annotations

import base64
import pickle
import platform
import traceback
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import cloudpickle
import pytest

from curator_llm import Endpoint
from curator_llm.engine.credentials import Credentials, resolve
from curator_llm.errors import AuthenticationError
from curator_llm.spec.secrets import SecretRef

CANARY = "sk-CANARY-0123456789"
FUNCTIONS = f"""
count = 0

def key():
    return "{CANARY}"

def counted():
    global count
    count += 1
    return f"{CANARY}-{{count}}"

def broken():
    raise ValueError("{CANARY}")

def nothing():
    return None
"""


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "vault_of_this_test.py").write_text(FUNCTIONS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "vault_of_this_test", raising=False)


def local(**arguments: Any) -> Endpoint:
    return Endpoint("m", base_url="http://localhost:8000/v1", **arguments)


def resolved(text: str) -> str:
    return resolve(SecretRef.parse(text, what="api_key"))


# --- references -------------------------------------------------------------------------------------------------------
def test_a_key_is_found_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", f" {CANARY}\n")
    assert resolved("env:MY_KEY") == CANARY


def test_a_key_is_found_in_a_file_also_below_the_home_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "key").write_text(CANARY + "\n")
    assert resolved(f"file:{tmp_path / 'key'}") == resolved("file:~/key") == CANARY


def test_a_key_is_what_a_function_returns() -> None:
    assert resolved("callable:vault_of_this_test:key") == CANARY


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("env:NOT_SET_ANYWHERE", "environment variable NOT_SET_ANYWHERE is not set"),
        ("env:EMPTY_HERE", "environment variable EMPTY_HERE is not set"),
        ("file:~/no/such/file", "key file ~/no/such/file cannot be read"),
        ("file:.", "key file . cannot be read"),
        ("file:\0", "cannot be read"),
        ("callable:vault_of_this_test:nothing", "gave no text"),
    ],
)
def test_a_reference_that_leads_nowhere_names_the_machine_and_the_fix(
    monkeypatch: pytest.MonkeyPatch, reference: str, said: str
) -> None:
    monkeypatch.setenv("EMPTY_HERE", " ")
    with pytest.raises(AuthenticationError) as raised:
        resolve(SecretRef(*reference.split(":", 1)))  # type: ignore[arg-type]
    assert said in str(raised.value)
    assert platform.node() in str(raised.value)
    assert "not only on the client" in str(raised.value)


@pytest.mark.parametrize("function", ["no_such_module:key", "vault_of_this_test:no_such_function"])
def test_a_function_that_is_not_there_names_what_went_wrong(function: str) -> None:
    with pytest.raises(AuthenticationError, match=f"callable:{function} raised (ModuleNotFound|Attribute)Error on"):
        resolved(f"callable:{function}")


def test_what_a_function_raises_is_named_and_its_message_is_not_repeated() -> None:
    with pytest.raises(AuthenticationError, match="raised ValueError") as raised:
        resolved("callable:vault_of_this_test:broken")
    assert "CANARY" not in str(raised.value)
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__


@pytest.mark.parametrize("secret", [f"{CANARY}\nsecond line", f"{CANARY}ü", f"{CANARY}\x1b[31m"])
def test_a_secret_that_no_header_can_carry_is_refused_and_not_repeated(
    monkeypatch: pytest.MonkeyPatch, secret: str
) -> None:
    monkeypatch.setenv("MY_KEY", secret)
    with pytest.raises(AuthenticationError, match="no header can carry") as raised:
        resolved("env:MY_KEY")
    assert "CANARY" not in str(raised.value)


# --- headers ----------------------------------------------------------------------------------------------------------
def test_a_key_goes_into_the_authorization_header(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", CANARY)
    assert Credentials(local(api_key="env:MY_KEY")).headers["authorization"] == f"Bearer {CANARY}"


def test_without_a_key_there_is_no_authorization_header(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", CANARY)
    assert "authorization" not in Credentials(local()).headers


def test_headers_are_sent_as_given_and_references_filled_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEAM_KEY", CANARY)
    headers = Credentials(local(headers={"X-Tier": "batch", "Api-Key": "env:TEAM_KEY"})).headers
    assert (headers["x-tier"], headers["api-key"]) == ("batch", CANARY)
    assert headers["content-type"] == "application/json"


def test_a_missing_secret_of_a_header_is_an_error_when_the_line_is_opened() -> None:
    with pytest.raises(AuthenticationError, match="TEAM_KEY"):
        Credentials(local(headers={"Api-Key": "env:TEAM_KEY"}))


def test_it_shows_where_the_key_is_found_and_not_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", CANARY)
    assert repr(Credentials(local(api_key="env:MY_KEY"))) == "Credentials(env:MY_KEY)"
    assert repr(Credentials(local())) == "Credentials(no key)"


# --- refresh ----------------------------------------------------------------------------------------------------------
def test_a_key_that_was_rotated_is_found_by_a_refresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "first-CANARY")
    credentials = Credentials(local(api_key="env:MY_KEY"))
    assert (credentials.refresh(0), credentials.version) == (False, 1)
    monkeypatch.setenv("MY_KEY", "second-CANARY")
    assert (credentials.refresh(1), credentials.version) == (True, 2)
    assert credentials.headers["authorization"] == "Bearer second-CANARY"
    assert (credentials.refresh(2), credentials.version) == (False, 3)


def test_a_key_that_another_flight_has_not_found_either_is_not_looked_up_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "first-CANARY")
    credentials = Credentials(local(api_key="env:MY_KEY"))
    assert not credentials.refresh(0)
    monkeypatch.setenv("MY_KEY", "second-CANARY")
    assert not credentials.refresh(0)  # the same burst
    assert credentials.headers["authorization"] == "Bearer first-CANARY"


def test_a_key_that_another_flight_has_refreshed_is_not_looked_up_again() -> None:
    credentials = Credentials(local(api_key="callable:vault_of_this_test:counted"))
    assert credentials.refresh(0)
    headers = credentials.headers
    assert credentials.refresh(0)
    assert credentials.headers is headers


def test_a_function_is_asked_again_at_a_refresh() -> None:
    credentials = Credentials(local(api_key="callable:vault_of_this_test:counted"))
    assert credentials.refresh(0)
    assert credentials.headers["authorization"] == f"Bearer {CANARY}-2"


def test_a_refresh_that_finds_no_key_keeps_the_headers_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", CANARY)
    credentials = Credentials(local(api_key="env:MY_KEY"))
    monkeypatch.delenv("MY_KEY")
    with pytest.raises(AuthenticationError):
        credentials.refresh(0)
    assert credentials.headers["authorization"] == f"Bearer {CANARY}"
    assert credentials.version == 0


# --- in memory --------------------------------------------------------------------------------------------------------
def test_a_traceback_that_shows_the_values_of_variables_shows_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", CANARY)
    monkeypatch.setenv("BROKEN", f"{CANARY}\nsecond line")
    for key in ("env:NOT_SET_ANYWHERE", "env:BROKEN", "callable:vault_of_this_test:broken"):
        with pytest.raises(AuthenticationError) as raised:
            Credentials(local(api_key=key, headers={"Team-Key": "env:MY_KEY"}))
        shown = traceback.TracebackException.from_exception(raised.value, capture_locals=True)
        assert "CANARY" not in "".join(shown.format())


@pytest.mark.parametrize("pickler", [pickle, cloudpickle], ids=["pickle", "cloudpickle"])
def test_a_secret_does_not_travel(monkeypatch: pytest.MonkeyPatch, pickler: Any) -> None:
    monkeypatch.setenv("MY_KEY", CANARY)
    for value in (resolved("env:MY_KEY"), Credentials(local(api_key="env:MY_KEY")).headers):
        with pytest.raises(TypeError, match="does not leave its process"):
            pickler.dumps(value)


# --- redaction --------------------------------------------------------------------------------------------------------
def test_secrets_that_a_server_echoes_are_marked_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", CANARY)
    monkeypatch.setenv("TEAM_KEY", "Bearer team-CANARY-1")
    credentials = Credentials(local(api_key="env:MY_KEY", headers={"X-Auth": "env:TEAM_KEY"}))
    said = f"Incorrect API key {CANARY}, {CANARY}; got 'Bearer team-CANARY-1' and 'team-CANARY-1'".encode()
    assert b"CANARY" not in credentials.redaction.redact(said)
    assert credentials.redaction.redact(said).startswith(b"Incorrect API key [redacted], [redacted]; got")


def test_a_key_that_json_writes_differently_is_marked_out_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", 'CANARY"\\0123456789')
    credentials = Credentials(local(api_key="env:MY_KEY"))
    assert b"CANARY" not in credentials.redaction.redact(b'{"error":"Incorrect API key CANARY\\"\\\\0123456789"}')


@pytest.mark.parametrize("before", ["", ":", "user:", "Bearer ", "api-key="])
@pytest.mark.parametrize("code", [base64.b64encode, base64.urlsafe_b64encode])
def test_a_key_in_base64_is_marked_out_wherever_it_begins(
    monkeypatch: pytest.MonkeyPatch, before: str, code: Any
) -> None:
    key = f"{CANARY}?>~/+"
    monkeypatch.setenv("MY_KEY", key)
    said = Credentials(local(api_key="env:MY_KEY")).redaction.redact(code(f"{before}{key} and more".encode()))
    left = said.replace(b"[redacted]", b"")
    assert b"[redacted]" in said
    assert len(left) <= len(code(f"{before}......".encode())) + len(code(b" and more"))


@pytest.mark.parametrize("words", [quote, quote_plus, lambda key: quote(key, safe=""), lambda key: quote(key).lower()])
def test_a_key_as_an_address_has_it_is_marked_out(monkeypatch: pytest.MonkeyPatch, words: Any) -> None:
    key = "canary-012345/+ =&"
    monkeypatch.setenv("MY_KEY", key)
    redaction = Credentials(local(api_key="env:MY_KEY")).redaction
    assert redaction.redact(f"at /v1?key={words(key.strip())}&x=1".encode()) == b"at /v1?key=[redacted]&x=1"


def test_a_key_whose_slashes_are_escaped_is_marked_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "CANARY/0123/456")
    assert Credentials(local(api_key="env:MY_KEY")).redaction.redact(rb"CANARY\/0123\/456") == b"[redacted]"


def test_the_password_in_basic_credentials_is_marked_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BASIC", "Basic " + base64.b64encode(b"user:pass-CANARY").decode())
    credentials = Credentials(local(headers={"Authorization": "env:BASIC"}))
    assert credentials.redaction.redact(b"no user with pass-CANARY") == b"no user with [redacted]"


def test_a_secret_that_begins_like_another_leaves_no_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "CANARY")
    monkeypatch.setenv("TEAM_KEY", "CANARY-and-its-rest")
    credentials = Credentials(local(api_key="env:MY_KEY", headers={"X-Auth": "env:TEAM_KEY"}))
    assert credentials.redaction.redact(b"CANARY-and-its-rest CANARY") == b"[redacted] [redacted]"


def test_the_key_before_a_refresh_is_marked_out_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "first-CANARY")
    credentials = Credentials(local(api_key="env:MY_KEY"))
    monkeypatch.setenv("MY_KEY", "second-CANARY")
    credentials.refresh(0)
    assert credentials.redaction.redact(b"first-CANARY second-CANARY") == b"[redacted] [redacted]"


def test_a_short_secret_is_marked_out_but_not_one_as_short_as_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    for secret, shown in (("abcdef", b"[redacted]"), ("abcde", b"abcde")):
        monkeypatch.setenv("MY_KEY", secret)
        assert Credentials(local(api_key="env:MY_KEY")).redaction.redact(secret.encode()) == shown


def test_what_holds_no_secret_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "abc")
    assert Credentials(local(api_key="env:MY_KEY")).redaction.redact(b"the abc of it") == b"the abc of it"
    assert Credentials(local()).redaction.redact(b"\xff\x00") == b"\xff\x00"

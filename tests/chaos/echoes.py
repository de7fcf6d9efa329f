"""A server that says the key it is sent wherever it can, and the places where clients find that key."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import quote

#: Where the functions below find key and address: names only, the values are set by who runs them.
KEY, ADDRESS = "CANARY_KEY", "CANARY_ADDRESS"


def forms(key: str) -> list[str]:
    """Return a key as a server may echo it: as it is, in a header's words, in a URL, in base64."""
    words = [key, f"Bearer {key}", f":{key}", f"user:{key}", f"api-key={key}"]
    coded = [code(word.encode()).decode() for word in words for code in (base64.b64encode, base64.urlsafe_b64encode)]
    return [*words, quote(key, safe=""), quote(key), json.dumps(key), *coded]


def needles(key: str) -> list[bytes]:
    """Return what gives a key away: parts of it as they are, and in base64 from each of the places it may begin at."""
    middle = key.rpartition("CANARY-")[2].encode()
    coded = [base64.b64encode(bytes(before) + middle)[4:-4] for before in range(3)]
    return [part for text in (middle, *coded) for part in (text[:16], text[-16:])]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        prompt = str(body["messages"][-1]["content"])
        status = int(prompt.partition(" ")[0])
        if status == 503 and prompt not in self.server.seen:  # type: ignore[attr-defined]
            self.server.seen.add(prompt)  # type: ignore[attr-defined]
        elif status == 503:
            status = 200
        key = self.server.key  # type: ignore[attr-defined]
        said = f"{status}: " + " ".join(forms(key))
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": said}}
        reply: dict[str, Any] = {"id": said, "model": said, "choices": [choice]}
        if status != 200:
            reply = {"error": {"message": said, "code": "invalid_api_key" if status == 401 else "", "type": said}}
        data = json.dumps(reply).replace("/", "\\/" if prompt > "400" else "/").encode()  # as PHP writes it
        self.send_response(status, _as_header(f"Not {key}"))
        for name in ("x-request-id", "location", "x-echo", "www-authenticate", "set-cookie", "retry-after-ms"):
            self.send_header(name, "1" if name == "retry-after-ms" else _as_header(said))
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Say nothing: the server knows the key."""


def _as_header(text: str) -> str:
    """Return a text that is one header: no line ends, and any character."""
    return " ".join(text.splitlines()).encode().decode("latin-1")


@contextmanager
def echo_server(key: str) -> Iterator[str]:
    """Serve, and say a key at each request; yield the base URL. A prompt begins with the status it gets; 503 once."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        server.seen, server.key = set(), key  # type: ignore[attr-defined]
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1"
        finally:
            server.shutdown()


def key() -> str:
    """Give the key, as a vault's function would."""
    return os.environ[KEY]


def broken_key() -> str:
    """Fail as vaults do: with the key in the text, the locals and the cause."""
    secret = os.environ[KEY]
    try:
        raise KeyError(secret)
    except KeyError as error:
        raise ValueError(f"no right to {secret}") from error


def sdk() -> Any:
    """Make the SDK's client; the key is in its query, too."""
    import openai

    return openai.AsyncOpenAI(
        api_key=os.environ[KEY],
        base_url=os.environ[ADDRESS],
        default_query={"key": os.environ[KEY]},
        default_headers={"X-Team-Token": os.environ[KEY]},
    )


def sdk_with_password() -> Any:
    """Make the SDK's client for an address with a password."""
    import openai

    address = os.environ[ADDRESS].replace("://", f"://user:{quote(os.environ[KEY], safe='')}@")
    return openai.AsyncOpenAI(api_key="EMPTY-EMPTY", base_url=address)


def broken_sdk() -> Any:
    """Fail to make a client, and say the key."""
    return broken_key()


def blocking() -> Any:
    """Make a client with the interface of NeMo Curator."""
    import openai

    from curator_llm.services import OpenAIClient

    return OpenAIClient(openai.OpenAI(api_key=os.environ[KEY], base_url=os.environ[ADDRESS], max_retries=0))


def ways(base_url: str, file: Path) -> dict[str, dict[str, Any]]:
    """Return the ways to supply a key: arguments of an Endpoint."""
    here = __name__
    return {
        "env": {"base_url": base_url, "api_key": f"env:{KEY}"},
        "file": {"base_url": base_url, "api_key": f"file:{file}"},
        "callable": {"base_url": base_url, "api_key": f"callable:{here}:key"},
        "header": {"base_url": base_url, "headers": {"X-Team-Token": f"env:{KEY}"}},
        "header and a missing key": {
            "base_url": base_url,
            "headers": {"X-Team-Token": f"env:{KEY}"},
            "api_key": "env:NOT_SET_ANYWHERE",
        },
        "broken callable": {"base_url": base_url, "api_key": f"callable:{here}:broken_key"},
        "SDK client": {"client": f"{here}:sdk"},
        "SDK client with a password in its address": {"client": f"{here}:sdk_with_password"},
        "broken factory": {"client": f"{here}:broken_sdk"},
        "client of NeMo Curator": {"client": f"{here}:blocking"},
    }

"""The fake server as a program: ``python -m curator_llm.testing --port 8000 --latency 0.2``.

Its first line of output is the base URL. It runs until it is interrupted or terminated.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import queue
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgspec

from curator_llm.testing.fake_server import FakeServer
from curator_llm.testing.faults import FAULTS
from curator_llm.testing.scripts import FaultScript, faults_named_in_prompt, long_tailed, seeded_faults


def parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    kinds = "\n".join(f"  {name:24}{fault.does}" for name, fault in FAULTS.items())
    parser = argparse.ArgumentParser(
        prog="python -m curator_llm.testing",
        description="An OpenAI-compatible server for tests; prints its base URL.",
        epilog=f"faults:\n{kinds}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--host", default="127.0.0.1")
    add("--port", type=int, default=0, help="0 takes a free one")
    add("--answer", help="answer this text instead of one made from the prompt")
    add("--latency", type=float, default=0.0, metavar="SECONDS")
    add("--long-tail", action="store_true", help="--latency is the median of a long-tailed distribution")
    add("--seed", type=int, default=0, help="of the long tail and the faults")
    add("--models", action="append", metavar="NAME", help="a model it has; may be repeated")
    add("--api-key", metavar="KEY", help="ask for this key (made up: it stands in the process list)")
    add("--requests-per-minute", type=float)
    add("--tokens-per-minute", type=float)
    add("--burst", type=float)
    add("--max-concurrent-requests", type=int)
    add("--faults-named", action="store_true", help="prompts such as 'reset@1: ...' name their fault")
    add("--fault", action="append", metavar="NAME", help="a fault of which --fault-rate of the attempts meet one")
    add("--fault-rate", type=float, default=0.1, metavar="SHARE")
    add("--fault-attempts", type=int, metavar="COUNT", help="spare each prompt's later attempts")
    add("--redirect-to", metavar="URL")
    add("--only-max-completion-tokens", action="store_true", help="refuse max_tokens, as newer OpenAI models do")
    add("--only-max-tokens", action="store_true", help="refuse max_completion_tokens, as older servers do")
    add("--reward-dialect", choices=["logprobs", "content", "number"], default="logprobs")
    add("--remember", type=int, default=100_000, metavar="REQUESTS")
    add("--commands", action="store_true", help="take commands as lines of JSON, and end with the standard input")
    return parser


def build(options: argparse.Namespace) -> FakeServer:
    """Make the server of a command line."""
    faults: FaultScript | None = faults_named_in_prompt if options.faults_named else None
    if options.fault:
        faults = seeded_faults(options.fault, options.fault_rate, options.seed, attempts=options.fault_attempts)
    return FakeServer(
        options.answer,
        latency=long_tailed(options.latency, options.seed) if options.long_tail else options.latency,
        models=options.models,
        api_key=options.api_key,
        requests_per_minute=options.requests_per_minute,
        tokens_per_minute=options.tokens_per_minute,
        burst=options.burst,
        max_concurrent_requests=options.max_concurrent_requests,
        faults=faults,
        redirect_to=options.redirect_to,
        only_max_completion_tokens=options.only_max_completion_tokens,
        only_max_tokens=options.only_max_tokens,
        reward_dialect=options.reward_dialect,
        host=options.host,
        port=options.port,
        remember=options.remember,
    )


def raise_file_limit() -> None:
    """Allow as many open files as the system does: every connection is one."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource  # not on every system

        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def obey(server: FakeServer, line: str) -> dict[str, Any]:
    """Do what one line of `FakeServerProcess` asks."""
    command, arguments = json.loads(line)
    try:
        match command:
            case "ledger":
                ledger = server.ledger
                return {"result": msgspec.to_builtins(ledger if arguments["seen"] else replace(ledger, seen=()))}
            case "reset" | "pause" | "resume" | "drop_connections" | "change":
                getattr(server, command)(**arguments)
                return {"result": None}
    except (TypeError, ValueError) as error:
        return {"error": str(error)}
    return {"error": f"there is no command {command!r}"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the server until it is told to stop."""
    options = parser().parse_args(argv)
    raise_file_limit()
    stop: queue.SimpleQueue[None] = queue.SimpleQueue()  # an Event's lock may be held where a signal comes
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.put(None))
    server = build(options).start()
    sys.stdout.write(f"{server.base_url}\n")
    sys.stdout.flush()
    if options.commands:
        for line in sys.stdin:
            sys.stdout.write(json.dumps(obey(server, line)) + "\n")
            sys.stdout.flush()
    else:
        stop.get()
    server.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())

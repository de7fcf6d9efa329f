"""The child process of a LocalServer: llama.cpp's server inside a Python process of its own.

Run as a file, with the settings as one JSON argument; it imports nothing of this package, so that it starts quickly. It
writes one JSON line with its address to standard output once the model is loaded, and lives as long as its standard
input is open: that closes when the parent goes away, however it goes.
"""

from __future__ import annotations

import json
import os
import sys
import threading

import xllamacpp


def main() -> None:
    """Load the model, say where it listens, and stay until standard input ends."""
    settings = json.loads(sys.argv[1])
    report = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever llama.cpp prints must not be taken for the address
    parent = threading.Thread(target=_exit_with_parent, daemon=True)
    parent.start()

    parameters = xllamacpp.CommonParams()
    parameters.model.path = settings["weights"]
    parameters.model_alias = {settings["model"]}
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = settings["port"]
    parameters.n_parallel = settings["slots"]
    parameters.n_ctx = settings["slots"] * settings["context_tokens"]  # llama.cpp divides it among the slots
    for cpu in (parameters.cpuparams, parameters.cpuparams_batch):
        cpu.n_threads = settings["threads"]
        cpu.poll = 0  # spinning halves the speed when Dask workers want the same cores
    parameters.ui = False
    parameters.verbosity = 0
    server = xllamacpp.Server(parameters)
    report.write(json.dumps({"address": server.listening_address}) + "\n")
    report.close()
    parent.join()


def _exit_with_parent() -> None:
    """Wait for the end of standard input, then leave at once: nobody waits for replies in flight."""
    while os.read(sys.stdin.fileno(), 1024):
        pass
    os._exit(0)


if __name__ == "__main__":
    main()

"""A small real model on this machine: llama.cpp's server in a child process, on the loopback interface.

This module covers starting and stopping it. It answers like any OpenAI-compatible server, with JSON schemas, and needs
no key and no network; SmolLM2-135M is for trying things out and for tests, not for good answers. Nothing else in the
package knows about it: a stage reaches it through its ``base_url``.
"""

from __future__ import annotations

from curator_llm.local.models import LOCAL_MODELS, LocalModel
from curator_llm.local.server import LocalServer, serve

__all__ = ["LOCAL_MODELS", "LocalModel", "LocalServer", "serve"]

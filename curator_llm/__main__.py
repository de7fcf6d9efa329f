"""``python -m curator_llm``."""

from __future__ import annotations

from curator_llm.cli import console

if __name__ == "__main__":
    console()

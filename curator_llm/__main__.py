"""``python -m curator_llm``."""

from __future__ import annotations

from curator_llm.cli import main

if __name__ == "__main__":
    main(prog_name="curator-llm")

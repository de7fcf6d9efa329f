"""The journal: every reply that was received, so that none is paid for again.

A directory of append-only JSON Lines segments, one writer each, and of index files that are derived from them.
"""

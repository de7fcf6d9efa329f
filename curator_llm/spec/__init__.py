"""Frozen values that say what is wanted. No I/O, no secrets: they travel in graphs and are printed."""

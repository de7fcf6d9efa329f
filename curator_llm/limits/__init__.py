"""What may start now: permits, rates, and the book that shares them out. Pure; the clock is passed in."""

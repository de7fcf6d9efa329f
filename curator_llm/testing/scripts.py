"""What the fake server does to whom: latencies and faults as pure functions of the prompt and the attempt.

This module covers the scripts that ship with the server. A test may write its own: any function of
``(prompt, attempt)``. Because they are pure, a test computes what each row met without asking the server.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from statistics import NormalDist

from curator_llm.testing.answers import draw
from curator_llm.testing.faults import FAULTS, look_up

#: Which fault a prompt meets at an attempt (1, 2, ...), or None.
FaultScript = Callable[[str, int], str | None]
#: How many seconds a prompt waits for its answer at an attempt.
LatencyScript = Callable[[str, int], float]

_NAMED = re.compile(r"(?<!\S)([a-z][a-z0-9_]*)(:[^\s@:]+)?(?:@(\d+)(?:-(\d+))?)?:(?=\s|$)")


def seeded_faults(kinds: Sequence[str], rate: float, seed: int = 0, *, attempts: int | None = None) -> FaultScript:
    """Make a share of all attempts fail, chosen by a hash of prompt and attempt.

    Parameters
    ----------
    kinds : sequence of str
        Names out of `FAULTS`, each with its parameter if it takes one.
    rate : float
        Share of the attempts that meet a fault, 0 to 1.
    seed : int
        Another seed gives another choice.
    attempts : int, optional
        Spare every attempt after this one, so that no row can fail for good.

    Returns
    -------
    callable
        ``script(prompt, attempt)`` gives the name of the fault, or None.

    Raises
    ------
    ValueError
        When a kind is unknown, or `rate` is not a share.

    Examples
    --------
    >>> script = seeded_faults(["http:500", "reset"], rate=0.3, seed=1)
    >>> sum(script(f"prompt {i}", 1) is not None for i in range(1_000))
    305
    >>> script("prompt 4", 1) == script("prompt 4", 1)
    True
    """
    for kind in kinds:
        look_up(kind)
    if not kinds or not 0 <= rate <= 1:
        msg = f"seeded_faults needs at least one kind and a rate from 0 to 1, not {list(kinds)!r} and {rate!r}"
        raise ValueError(msg)
    chosen = tuple(kinds)

    def script(prompt: str, attempt: int) -> str | None:
        if attempts is not None and attempt > attempts:
            return None
        if draw("fault", seed, attempt, prompt) >= rate:
            return None
        return chosen[int(draw("kind", seed, attempt, prompt) * len(chosen))]

    return script


def faults_named_in_prompt(prompt: str, attempt: int) -> str | None:
    """Read the fault from the prompt: ``reset: ...`` meets ``reset``, ``http:500@1: ...`` meets a 500 once.

    Parameters
    ----------
    prompt : str
        A text with ``NAME: ``, ``NAME:PARAMETER: ``, ``NAME@ATTEMPT: `` or ``NAME@FIRST-LAST: `` at the start or after
        white space, NAME out of `FAULTS`. The first one counts.
    attempt : int
        From 1.

    Returns
    -------
    str or None
        The fault's full name, or None.

    Examples
    --------
    >>> faults_named_in_prompt("reset: row 7", 3)
    'reset'
    >>> faults_named_in_prompt("Summarise: http:503@1-2: row 8", 2)
    'http:503'
    >>> faults_named_in_prompt("Summarise: http:503@1-2: row 8", 3) is None
    True
    """
    for found in _NAMED.finditer(prompt):
        name, parameter, first, last = found.groups()
        if name in FAULTS:
            if first is not None and not int(first) <= attempt <= int(last or first):
                return None
            return name + (parameter or "")
    return None


def long_tailed(median_s: float, seed: int = 0, *, sigma: float = 1.0, longest_s: float = math.inf) -> LatencyScript:
    """Make latencies as models have them: most near the median, a few many times longer.

    Parameters
    ----------
    median_s : float
        Half of the prompts wait less, in seconds.
    seed : int
        Another seed gives another draw.
    sigma : float
        Width of the log-normal distribution; at 1.0 one prompt in 100 waits more than ten times the median.
    longest_s : float
        Cap, in seconds.

    Returns
    -------
    callable
        ``script(prompt, attempt)`` gives seconds, the same for every attempt of a prompt.

    Examples
    --------
    >>> wait_s = long_tailed(0.02, seed=3, longest_s=1.0)
    >>> waits_s = sorted(wait_s(f"prompt {i}", 1) for i in range(1_001))
    >>> 0.018 < waits_s[500] < 0.022, waits_s[990] > 5 * waits_s[500], waits_s[-1] <= 1.0
    (True, True, True)
    """
    normal = NormalDist(0.0, sigma)

    def script(prompt: str, attempt: int) -> float:
        del attempt
        share = min(max(draw("latency", seed, prompt), 1e-12), 1 - 1e-12)
        return min(median_s * math.exp(normal.inv_cdf(share)), longest_s)

    return script

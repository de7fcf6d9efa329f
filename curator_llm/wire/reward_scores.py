"""Read the scores out of a reward model's reply, in the two dialects in use.

This module covers plain values alone: whoever has an SDK object or decoded JSON picks the two values out of the first
choice and hands them in. What it costs is linear in the length of the text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping

#: The name of the score of a reply that is one number and nothing else.
SINGLE_SCORE = "score"

_NUMBER = re.compile(r"[+-]?(?:[0-9]++(?:\.[0-9]*+)?|\.[0-9]++)(?:[eE][+-]?[0-9]++)?")
# Possessive: the text is a model's, and no text may make the match go back and forth.
_PAIR = re.compile(r"[\s,]*+([^\W\d][^\s,:]*+)\s*+:\s*+([^\s,:]++)[\s,]*+")


def scores_from(
    content: object, logprobs: Mapping[str, object] | Iterable[tuple[object, object]] | None = None
) -> dict[str, float] | None:
    """Return the scores of a reward model's reply.

    Logprobs win: if there is at least one, the text is not looked at. A reply is read as a whole or not at all, so one
    score that is not a finite number makes the reply one without scores; a partial reading would pass as complete.

    Parameters
    ----------
    content : object
        The text of the reply, of which two forms are read: ``name:number`` pairs with commas or white space between,
        where a name begins with a letter or underscore and holds no white space, comma or colon and stands once; or
        one plain number, whose name is ``score``. Anything that is not a `str` has no scores.
    logprobs : mapping of str to float, or iterable of (token, logprob), optional
        What stands in ``choices[0].logprobs.content``: the token is the name, the logprob the score. Of equal tokens
        the last holds, as in NeMo Curator.

    Returns
    -------
    dict of str to float, or None
        Scores in the order of the reply, every one finite, never empty; None when the reply has none.

    Examples
    --------
    >>> scores_from("helpfulness:1.2,correctness:0.4")
    {'helpfulness': 1.2, 'correctness': 0.4}
    >>> scores_from("-3.75")
    {'score': -3.75}
    >>> scores_from("read instead of this", [("helpfulness", 1.6), ("verbosity", 0)])
    {'helpfulness': 1.6, 'verbosity': 0.0}
    >>> scores_from("I would say 7.5/10") is None
    True
    """
    pairs = list(logprobs.items() if isinstance(logprobs, Mapping) else logprobs or ())
    if not pairs:
        return _from_text(content) if isinstance(content, str) else None
    scores: dict[str, float] = {}
    for name, value in pairs:
        score = _finite(value)
        if score is None or not isinstance(name, str):
            return None
        scores[name] = score
    return scores


def _from_text(text: str) -> dict[str, float] | None:
    alone = _number(text.strip())
    if alone is not None:
        return {SINGLE_SCORE: alone}
    scores: dict[str, float] = {}
    end = 0
    while pair := _PAIR.match(text, end):
        name, digits = pair.groups()
        score = _number(digits)
        if score is None or name in scores:
            return None
        scores[name] = score
        end = pair.end()
    return scores if scores and end == len(text) else None


def _number(text: str) -> float | None:
    return _finite(float(text)) if _NUMBER.fullmatch(text) else None


def _finite(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:  # an int beyond the range of float
        return None

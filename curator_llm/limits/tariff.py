"""What a request may cost, before it is sent, and what it did cost, after. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from curator_llm.limits.budget_book import Amounts
from curator_llm.wire.verdicts import Verdict


@dataclass(frozen=True)
class Tariff:
    """The price of a stage's requests.

    Parameters
    ----------
    output_limit : int
        Most tokens of a reply.
    price_usd : (float, float) or None
        For a million input and output tokens.

    Examples
    --------
    >>> Tariff(output_limit=100, price_usd=(1.0, 10.0)).worst(b"x" * 500)
    {'requests': 1, 'tokens': 600, 'usd': 0.0015}
    """

    output_limit: int
    price_usd: tuple[float, float] | None

    def worst(self, body: bytes) -> Amounts:
        """Return what a request costs at the worst: a token has a byte at least, and a reply its limit at most."""
        return self._amounts(1, len(body), self.output_limit)

    def charged(self, verdict: Verdict, worst: Amounts) -> Amounts:
        """Return what an attempt cost: what the server says, `worst` where it does not, nothing where it refused.

        A request counts even when the server refused it, unless it never got there.
        """
        requests = int(verdict.sent or verdict.billed)
        if not verdict.billed:
            return self._amounts(requests, 0, 0)
        if verdict.input_tokens is None or verdict.output_tokens is None:
            return {**worst, "requests": requests}
        return self._amounts(requests, verdict.input_tokens, verdict.output_tokens)

    def _amounts(self, requests: int, input_tokens: int, output_tokens: int) -> Amounts:
        price = self.price_usd or (0.0, 0.0)
        usd = (input_tokens * price[0] + output_tokens * price[1]) / 1e6
        return {"requests": requests, "tokens": input_tokens + output_tokens, "usd": usd}

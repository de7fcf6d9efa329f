"""What tokens of a hosted model cost: given by the user, else looked up in the extra ``prices``.

The lookup is local: genai-prices carries its table in the wheel. It knows a price for a model at an address, so a model
of one's own under a well-known name has none.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from curator_llm.spec.addresses import is_private
from curator_llm.spec.endpoint import Endpoint

Price = tuple[float, float]

#: Some prices go up with the length of the input; the price of so many tokens is the usual one.
_USUAL_TOKENS = 1_000


def price_of(endpoint: Endpoint) -> Price | None:
    """Return US dollars for a million input and output tokens, None when nobody says.

    Parameters
    ----------
    endpoint : Endpoint
        Its `price_usd` holds; else its model and (first) address are looked up, if the extra ``prices`` is installed.

    Notes
    -----
    Cost: no request; the first lookup of a process loads the table, about 0.3 s.

    Examples
    --------
    >>> price_of(Endpoint("qwen3-32b", base_url="http://localhost:8000/v1", price_usd=(0.1, 0.4)))
    (0.1, 0.4)
    >>> price_of(Endpoint("gpt-4.1-mini", base_url="http://localhost:8000/v1")) is None
    True
    """
    if endpoint.price_usd is not None:
        return endpoint.price_usd
    url = next(iter(endpoint.base_urls), None)
    if url is None or is_private(urlsplit(url).hostname or ""):
        return None
    try:
        import genai_prices
    except ImportError:
        return None
    try:
        parts = [
            genai_prices.calc_price(usage, endpoint.model, provider_api_url=url).total_price
            for usage in (
                genai_prices.Usage(input_tokens=_USUAL_TOKENS),
                genai_prices.Usage(output_tokens=_USUAL_TOKENS),
            )
        ]
    except LookupError:
        return None
    input_usd, output_usd = (float(part) * 1_000_000 / _USUAL_TOKENS for part in parts)
    return (input_usd, output_usd)

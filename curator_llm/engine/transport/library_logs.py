"""What the libraries below a user's client log: addresses, headers and exceptions, and in these the key.

The SDK and httpx hide the headers they send, by name; not the query of an address, and nothing of what a server says.
"""

from __future__ import annotations

import logging

from curator_llm.engine.redaction import Redaction

_HTTP = ("connection", "http11", "http2", "proxy", "socks")
#: Filters hold for one logger, not for those below it. The older httpx stands below clients of an older SDK.
_LOGGERS = (
    *("openai", "openai._base_client", "openai._response", "openai._legacy_response", "httpx2", "httpx"),
    *(f"{library}.{part}" for library in ("httpcore2", "httpcore") for part in _HTTP),
)


class RedactedLogs(logging.Filter):
    """Takes secrets out of those libraries' logs until it is closed.

    Parameters
    ----------
    redaction : Redaction
        What it learns later is taken out, too.
    """

    def __init__(self, redaction: Redaction) -> None:
        super().__init__()
        self._redaction = redaction
        for name in _LOGGERS:
            logging.getLogger(name).addFilter(self)

    def filter(self, record: logging.LogRecord) -> bool:
        """Replace a record's words, and those of its traceback; drop none."""
        record.msg, record.args = self._redaction.text(record.getMessage()), ()
        if record.exc_info:
            record.exc_text = _FORMATTER.formatException(record.exc_info)
            record.exc_info = None
        if record.exc_text:
            record.exc_text = self._redaction.text(record.exc_text)
        return True

    def close(self) -> None:
        """Leave the logs alone again."""
        for name in _LOGGERS:
            logging.getLogger(name).removeFilter(self)


_FORMATTER = logging.Formatter()

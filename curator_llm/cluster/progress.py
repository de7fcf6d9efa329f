"""Progress, for people: what the engines of a cluster, or of this process, do right now. It never holds up the work."""

from __future__ import annotations

import dataclasses
import sys
import time
from typing import TYPE_CHECKING, Any, Self

import dask.config

from curator_llm.cluster.look import Look
from curator_llm.cluster.sources import Cluster, Here, Source

if TYPE_CHECKING:
    from distributed import Client

    from curator_llm.cluster.live import Live


#: Workers report once a second where there are few.
_LAST_REPORT_S, _LOOK_S = 2.0, 0.1


class Progress:
    """What `progress` returns.

    Parameters
    ----------
    client : distributed.Client, optional
    total : int, optional
    timeout_s : float, default 5
        How long a cluster may take to answer.
    """

    def __init__(self, client: Client | None = None, *, total: int | None = None, timeout_s: float = 5.0) -> None:
        self._given = client or _current_client()
        self._total = total
        self._timeout_s = timeout_s
        self._here = Here()
        self._cluster: tuple[Client, Source] | None = None
        self._before: Look | None = None
        self._live: Live | None = None
        self._bars: Any = None

    def look(self) -> Look:
        """Return what is known now: all since the cluster began, or since the context was opened.

        Workers report about once a second. A cluster that does not answer gives what it said last. Sends no request to
        a model.
        """
        look = Look.of(self._here.status(), total=self._total)
        look = dataclasses.replace(look, workers=None)
        client = self._given or _current_client()
        if client is not None:
            if self._cluster is None or self._cluster[0] is not client:
                self._cluster = (client, Cluster(client, self._timeout_s))
            ours = [dataclasses.replace(scope, name=f"{scope.name}, in this process") for scope in look.scopes]
            look = Look.of(self._cluster[1].status(), total=self._total)
            look = dataclasses.replace(look, scopes=(*look.scopes, *ours))
        return look if self._before is None else look.since(self._before)

    def begin(self) -> None:
        """Count from now on."""
        self._before = None
        self._before = self.look()

    def __enter__(self) -> Self:
        from curator_llm.cluster.live import Live, display_of

        self.begin()
        self._bars = dask.config.set({"curator-llm.progress": False})  # one display is enough
        display = display_of(sys.stderr)
        self._live = Live(self.look, display).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._live is not None:
            if kind is None:
                self._await_reports()
            self._live.stop()
            self._bars.__exit__(None, None, None)
            self._live = None

    def _await_reports(self) -> None:
        """Wait until all workers have reported since the end: the display stays."""
        ended_at = time.monotonic()
        while time.monotonic() - ended_at < min(self.look().age_s, _LAST_REPORT_S):
            time.sleep(_LOOK_S)

    def __str__(self) -> str:
        return str(self.look())

    def _repr_html_(self) -> str:
        return self.look()._repr_html_()


def progress(client: Client | None = None, *, total: int | None = None) -> Progress:
    """Show how rows are answered while a context is open, or look once.

    On a terminal and in a notebook it is a display that stays in place, elsewhere (batch systems) a line each 30
    seconds, on standard error. It says rows by status, rows and tokens a second, requests in flight and how many may
    be, what was paid, how long it will take, and what holds it back, with what to try. It asks the scheduler alone,
    twice a second, and sends no request to a model.

    Parameters
    ----------
    client : distributed.Client, optional
        Whose cluster; default the current client's. Without one, and beside it, the rows of this process are shown:
        pandas frames, Dask's local schedulers.
    total : int, optional
        How many rows there are in all; a row that two stages ask counts twice. Partitions tell how many rows they have
        as they begin, so without it the time left is that of the rows known so far.

    Returns
    -------
    Progress
        A context; ``look()`` returns one `Look`: a line as text, a table in a notebook, with ``scopes`` for figures.

    Examples
    --------
    >>> import curator_llm
    >>> with curator_llm.progress(total=300_000):  # doctest: +SKIP
    ...     ddf.compute()
    >>> print(curator_llm.progress().look())  # doctest: +SKIP
    ok 1,200 · 1,200 of 2,000 rows known so far · 60.0 rows/s · 64 of 64 in flight
    """
    return Progress(client, total=total)


def _current_client() -> Client | None:
    distributed = sys.modules.get("distributed")  # who has a client has loaded it
    if distributed is None:
        return None
    try:
        client: Client = distributed.Client.current()
    except ValueError:
        return None
    return client

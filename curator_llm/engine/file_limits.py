"""Open files: each request in flight holds one. Without any left not even the journal works, so permits are capped."""

from __future__ import annotations

import warnings

#: Left for the journal, Dask's connections and everybody else.
RESERVED_FILES = 256


def permits_within_file_limit(permits: int, others: int = 0) -> int:
    """Raise the soft limit of open files if it stands in the way, and return how many permits it leaves.

    Parameters
    ----------
    permits : int
    others : int
        Permits of other scopes, which need files too.

    Warns
    -----
    UserWarning
        When the hard limit leaves fewer permits than asked for.
    """
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return permits
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    reserved = RESERVED_FILES + others
    needed = permits + reserved
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return permits
    reachable = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, reachable), hard))
    except (ValueError, OSError):  # macOS refuses values its kernel does not allow
        reachable = soft
    left = max(1, max(soft, reachable) - reserved)
    if left >= permits:
        return permits
    warnings.warn(
        f"max_concurrent_requests={permits} needs {needed} open files, and this process may open "
        f"{max(soft, reachable)}: {left} requests are kept in flight. Raise the hard limit (ulimit -Hn) to use more.",
        stacklevel=2,
    )
    return left

"""Work in several processes, which end with it."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import joblib
from joblib.externals.loky import get_reusable_executor

Result = TypeVar("Result")


def map_in_processes(
    function: Callable[..., Result], arguments: Iterable[tuple[Any, ...]], n_jobs: int = -1
) -> Iterator[Result]:
    """Yield ``function(*item)`` for each of the arguments, in order.

    joblib keeps its processes for minutes: a child process would wait for them, and work that comes
    just as they end waits for ever.

    Parameters
    ----------
    n_jobs
        Processes, as joblib counts them: -1 is one a core, 1 none but this.

    Examples
    --------
    >>> list(map_in_processes(pow, [(2, 3), (3, 2)], n_jobs=1))
    [8, 9]
    """
    if joblib.effective_n_jobs(n_jobs) == 1:
        yield from (function(*item) for item in arguments)
        return
    try:
        yield from joblib.Parallel(n_jobs, return_as="generator")(
            joblib.delayed(function)(*item) for item in arguments
        )
    finally:
        get_reusable_executor().shutdown(wait=True, kill_workers=True)

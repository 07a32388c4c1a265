"""Work on several cores at once: threads, in order, a little ahead of who consumes the results."""

import functools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


def available_cores() -> int:
    """Return the number of cores this process may use (a job's share, not the machine's)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def map_in_threads(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    n_threads: int | None = None,
    ahead: int | None = None,
    torch_threads: int = 1,
) -> Iterator[Result]:
    """Yield ``function(item)`` for each item, in order.

    Threads suffice: Pillow, NumPy, HDF5 and torch work outside of Python's lock. An error in
    ``function`` is raised where its result would have been yielded.

    Parameters
    ----------
    n_threads
        By default one for each core.
    ahead
        How many results may wait, by default two a thread: bounds the memory they take.
    torch_threads
        The threads that an operation of torch in ``function`` uses, its neighbours using others.

    Examples
    --------
    >>> list(map_in_threads(abs, [-1, -2, -3]))
    [1, 2, 3]
    """
    n_threads = n_threads or available_cores()
    waiting: deque[Future[Result]] = deque()
    remaining = iter(items)
    before = torch.get_num_threads()
    # Set in a thread, the number holds for that thread and those that begin later.
    start = functools.partial(torch.set_num_threads, torch_threads)
    with ThreadPoolExecutor(n_threads, initializer=start) as pool:
        try:
            for item in islice(remaining, ahead or 2 * n_threads):
                waiting.append(pool.submit(function, item))
            while waiting:
                result = waiting.popleft().result()
                for item in islice(remaining, 1):
                    waiting.append(pool.submit(function, item))
                yield result
        finally:
            for future in waiting:
                future.cancel()
            torch.set_num_threads(before)


def batched_map(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    batch_size: int,
    *,
    n_threads: int | None = None,
) -> Iterator[list[Result]]:
    """Yield ``[function(item), …]`` batch by batch, in order, up to two batches ahead.

    Examples
    --------
    >>> list(batched_map(abs, [-1, -2, -3], batch_size=2))
    [[1, 2], [3]]
    """
    results = map_in_threads(function, items, n_threads=n_threads, ahead=2 * batch_size)
    while batch := list(islice(results, batch_size)):
        yield batch


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Let torch use one thread an operation, where several operations run side by side.

    Many small operations on two threads each wait for one another, up to a scheduler's time slice
    where the cores are shared.
    """
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    # MKL sets itself up at its first use. Where two threads come first at once, one of them may get
    # a coarser exponential (off by 3e-5; seen in one process of fifty).
    torch.ones(8).exp_()
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)

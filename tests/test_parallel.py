"""Threads: in order, errors where they belong, and the same numbers in every process."""

import os
import subprocess
import sys

import pytest

from dissect_embed.parallel import map_in_threads


def test_an_error_comes_where_its_result_would():
    results = map_in_threads(lambda n: 1 // n, [1, 2, 0, 4], n_threads=2)
    assert [next(results), next(results)] == [1, 0]
    with pytest.raises(ZeroDivisionError):
        next(results)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_two_threads_that_compute_first_get_the_same_numbers():
    """MKL's first use is a race: without care, one process in fifty has a coarser exponential."""
    done = subprocess.run(
        [sys.executable, "-c", FORKS], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert len(set(done.stdout.split())) == 1, done.stdout


# Each child's two threads are the first of its process to compute anything.
FORKS = """
import os
import torch
from dissect_embed.parallel import map_in_threads, one_torch_thread
from dissect_embed.mathematics.vectors import Schedule, initial_vectors, train_vectors

def work(_):
    target = torch.eye(128)
    start = initial_vectors(128, 16, [0, 1, 2])
    trained = train_vectors(start, lambda step: target, Schedule(epochs=1, steps_per_epoch=2))
    return float(trained.loss[0, 0])

for _ in range(250):
    if os.fork() == 0:
        with one_torch_thread():
            print(*map_in_threads(work, range(2), n_threads=2), flush=True)
        os._exit(0)
    os.wait()
"""

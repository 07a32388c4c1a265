"""Beside ``toy``: this file lets the tests in the folders below import it."""

from collections.abc import Iterator

import pytest

from dissect_embed.parallel import one_torch_thread


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Threads that wait for a busy processor take ten times as long as one for small tensors."""
    with one_torch_thread():
        yield

"""A tree of modules for each thread that runs a network."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import nn

from dissect_embed.networks.copies import copy_network
from dissect_embed.networks.hooks import probe


@contextmanager
def tree_a_thread(
    model: nn.Module,
    layers: Sequence[str],
    keep: Callable[[str, Any], Any],
    *,
    can_share: bool = True,
) -> Iterator[Callable[[], nn.Module]]:
    """Yield what returns the calling thread's own tree of modules, probed as by ``probe``.

    So what a network keeps on itself between two steps of a pass is that thread's.

    Parameters
    ----------
    can_share
        Whether copies can run side by side; else all threads get the network itself.
    """
    here = threading.local()

    def tree() -> nn.Module:
        if not hasattr(here, "model"):
            own = copy_network(model, share=True) if can_share else model.eval()
            here.model = own
            stack.enter_context(probe(own, layers, keep))
        return here.model  # type: ignore[no-any-return]

    with ExitStack() as stack:
        yield tree

"""The command line: ``dissect-embed STAGE …``. A command parses, calls one function, says so."""

import logging
import sys

import typer

from dissect_embed.cli import (
    ablation,
    activations,
    comparing,
    data,
    dissection,
    distillation,
    embedding,
    figures,
    importing,
    looking,
    merging,
    networks,
)
from dissect_embed.errors import DissectEmbedError
from dissect_embed.memory import keep_freed_memory

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Dissect a vision network, embed its units, and measure how much meaning they hold.",
)
app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(
    looking.run
)
# In the order of a run.
for command in (
    networks.layers,
    data.mini,
    data.fetch,
    data.dataset,
    data.check,
    importing.import_,
    merging.merge,
    data.describe,
    activations.train,
    dissection.labels,
    activations.activations,
    dissection.thresholds,
    dissection.dissect,
    dissection.chance,
    activations.gather,
    dissection.units,
    embedding.similarity,
    embedding.embed,
    embedding.score,
    figures.relations,
    ablation.ablate,
    figures.figure2,
    figures.figure3,
    figures.figure4,
    figures.detectors,
    figures.export,
    figures.atlas,
    comparing.compare,
    distillation.classes,
    distillation.shapes,
    distillation.prior,
    distillation.distil,
    distillation.table1,
    looking.inspect,
    looking.summary,
):
    app.command(command.__name__.rstrip("_"))(command)


def main() -> None:
    """Run the command line; a user's mistake is one line, without a stack trace."""
    # Before any thread begins.
    keep_freed_memory()
    try:
        app()
    except (DissectEmbedError, FloatingPointError, OSError) as error:
        logging.error("error: %s", error)
        sys.exit(1)
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError":  # torch's, which need not be loaded here
            raise
        logging.error(
            "error: %s; smaller batches need less (--batch-size), and --device cpu none of it",
            str(error).split(". ")[0],
        )
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)

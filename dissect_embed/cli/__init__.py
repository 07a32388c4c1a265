"""The command line: ``dissect-embed STAGE …``. A command parses, calls one function, says so."""

import logging
import sys

import typer

from dissect_embed.cli import dissecting, distilling, embedding, preparation, relations, results
from dissect_embed.errors import DissectEmbedError

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Dissect a vision network, embed its units, and measure how much meaning they hold.",
)
# In the order of a run.
for command in (
    preparation.mini,
    preparation.fetch,
    preparation.classes,
    preparation.shapes,
    preparation.train,
    dissecting.labels,
    dissecting.activations,
    dissecting.thresholds,
    dissecting.dissect,
    dissecting.gather,
    dissecting.units,
    embedding.similarity,
    embedding.embed,
    embedding.controls,
    embedding.score,
    relations.relations,
    relations.figure2,
    relations.figure3,
    relations.export,
    relations.atlas,
    distilling.prior,
    distilling.distil,
    distilling.table1,
    results.figure4,
    results.detectors,
    results.inspect,
    results.summary,
):
    app.command()(command)


def main() -> None:
    """Run the command line; a user's mistake is one line, without a stack trace."""
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

"""``python -m dissect_embed STAGE …``: the command line, also of an uninstalled checkout."""

from dissect_embed.cli import main

main()

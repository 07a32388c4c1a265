"""What an HDF5 file between stages is, what it holds, and which units and images have a concept.

``files`` tells how a file is stored, ``overviews`` what its layers hold, ``answers`` what it knows
of one unit or one concept: texts and tables, which ``printing`` prints once all is read.
"""

from dissect_embed.inspection.printing import print_inspection

__all__ = ["print_inspection"]

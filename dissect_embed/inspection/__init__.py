"""What an HDF5 file between stages is, what it holds, and which units and images have a concept.

``files`` reads a file's header and how its datasets are stored, ``summaries`` condenses a layer,
``queries`` answers for one unit or one concept. They return plain data;
``overviews``, ``answers`` and ``printing`` lay it out.
"""

from dissect_embed.inspection.printing import print_inspection

__all__ = ["print_inspection"]

"""Labelled images of other formats, turned into a data set in Broden's format.

A module a format finds the images and says what is labelled in each (``Source``); ``writing`` makes
the data set of any of them.
"""

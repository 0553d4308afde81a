"""Representation collapse: objectives, diagnostics and evidence, shared by an executable book.

``data`` and ``views`` make what is trained on, ``networks`` and ``training`` train it,
``objectives`` hold the remedies and what collapses without them, ``diagnostics`` measure what came
out, ``evidence`` judges claims about it, ``figures`` draw it.
"""

from importlib.metadata import version

__version__ = version("repcollapse")

"""Collapse beyond joint embeddings: one small world a phenomenon.

A file holds what one chapter needs and nothing else does: the data where they are made, the model,
what it is trained for, and what is read of it. All are run by :func:`repcollapse.modes.runs.repeat`
and trained by :func:`repcollapse.modes.runs.fit`.
"""

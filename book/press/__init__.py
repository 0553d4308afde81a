"""The press: executes the notebooks, stages what the site is made of, renders it and checks it.

One direction, four steps, each in its own module and each leaving its result under ``_build``::

    execute -> _build/executed    papermill, two notebooks at a time, cached
    ledger  -> the claims         gathered from the notebooks, judged against what is expected
    stage   -> _build/staged      pages, figures and cards, ready for Jupyter Book
    render  -> _build/html        Jupyter Book with warnings as errors, then check, then one swap
"""

"""Collapse beyond joint embeddings: one small world a phenomenon.

A file holds what one chapter needs and nothing else does: the data where they are made, the model,
what it is trained for, and what is read of it.

- Classifiers: `free_features`, where features are all that is learned; `neural`, which trains the
  network of `classifier`, by `supcon` if asked to.
- Variational autoencoders: `linear_vae`, `coins`, and `posterior` on the images of `pixels`.
- Codebooks: `codebook`, and `picture_codes`, which are looked up in one.
- Attention: the layer in `attention`, and what it does to random tokens in `attention_laws`; the
  `reader` of `patches`.
- Graphs: `smoothing`, and `gcn`.
- Streams of tasks: the `learner` of `plasticity`.
- Experts: a `mixture` of them, and the `routing` of `tokens` to them.
- Language models: `text`, the geometry of its `words`, and the `language` model.
- Pairs of towers: `towers` on `halves` of pictures, with `tower_losses`, `tower_readings` and
  `tower_laws`.
- World models: a `ball` in a box, and the `world` model that watches it.

All are run over arms and seeds by :func:`repcollapse.modes.runs.repeat`, and what is trained by
steps is trained by :func:`repcollapse.modes.fitting.fit`; `pictures` has the images that several of
them are trained on.
"""

"""Real handwritten digits, 8x8 pixels: they come with scikit-learn, so nothing is downloaded."""

from __future__ import annotations

import torch

from repcollapse.data.dataset import Dataset, Split, stratified_order, stream

TOTAL = 1797


def load_digits(seed: int, n_train: int, n_test: int) -> Dataset:
    """Return scikit-learn's digits, split at random in proportion to the classes.

    Source: Alpaydin and Kaynak (1998), "Optical Recognition of Handwritten Digits", UCI Machine
    Learning Repository; the 1797 images that `sklearn.datasets.load_digits` brings.
    """
    from sklearn.datasets import load_digits as read  # slow to import, so only when asked for

    if n_train + n_test > TOTAL:
        raise ValueError(
            f"n_train + n_test must be at most {TOTAL}, all digits there are; "
            f"got {n_train} + {n_test}"
        )
    bunch = read()
    images = torch.from_numpy(bunch.images).float().div_(16).unsqueeze(1)
    labels = torch.from_numpy(bunch.target).long()
    order = stratified_order(labels, stream(seed, "digits split"))
    train, test = order[:n_train], order[n_train : n_train + n_test]
    return Dataset(
        name="digits",
        train=Split(images[train], labels[train]),
        test=Split(images[test], labels[test]),
        class_names=tuple(str(digit) for digit in range(10)),
        views="moved",
    )

from __future__ import annotations

import pytest
import torch

from repcollapse.data import Dataset, Split, stratified_order, stream

IMAGES = torch.zeros(4, 1, 8, 8)
LABELS = torch.arange(4)


def test_split_knows_its_size() -> None:
    split = Split(torch.zeros(4, 3, 8, 8), LABELS, {"tone": torch.ones(4)})
    assert len(split) == 4
    assert split.channels == 3


@pytest.mark.parametrize(
    ("images", "labels", "factors", "error", "message"),
    [
        (IMAGES.double(), LABELS, {}, TypeError, "images must be a float32.*got torch.float64"),
        (IMAGES.numpy(), LABELS, {}, TypeError, "images must be a float32.*got float32"),
        (IMAGES[:, 0], LABELS, {}, ValueError, r"images must have shape \(N, C, H, W\); got"),
        (IMAGES + 2, LABELS, {}, ValueError, r"images must hold values in \[0, 1\]; got 2 to 2"),
        (IMAGES * torch.nan, LABELS, {}, ValueError, "images must hold values.*got nan"),
        (IMAGES, LABELS[:3], {}, ValueError, r"labels must have shape \(4,\)"),
        (IMAGES, LABELS.float(), {}, TypeError, "labels must be an int64 torch.Tensor"),
        (IMAGES, LABELS, {"tone": torch.ones(3)}, ValueError, r"factors\['tone'\] must have shape"),
    ],
)
def test_split_refuses(
    images: torch.Tensor,
    labels: torch.Tensor,
    factors: dict[str, torch.Tensor],
    error: type[Exception],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        Split(images, labels, factors)


def test_dataset_refuses_an_unknown_kind_of_views() -> None:
    split = Split(IMAGES, LABELS)
    with pytest.raises(ValueError, match=r"views must be one of \['augmented', 'moved'\]; got 'x'"):
        Dataset("a", split, split, ("0",), views="x")  # type: ignore[arg-type]


def test_streams_depend_on_seed_and_purpose_only() -> None:
    def draw(seed: int, purpose: str) -> float:
        return torch.rand(1, generator=stream(seed, purpose)).item()

    assert draw(1, "a") == draw(1, "a")
    assert len({draw(1, "a"), draw(2, "a"), draw(1, "b"), draw(2, "b")}) == 4


@pytest.mark.parametrize(("seed", "error"), [(-1, ValueError), (0.5, TypeError), (True, TypeError)])
def test_stream_refuses_a_bad_seed(seed: int, error: type[Exception]) -> None:
    with pytest.raises(error, match="seed must be"):
        stream(seed, "a")


def test_stratified_order_is_a_permutation_in_proportion() -> None:
    labels = torch.tensor([0] * 500 + [1] * 300 + [2] * 200)
    order = stratified_order(labels, stream(0, "test"))
    assert order.sort().values.tolist() == list(range(1000))
    for start in range(0, 1000, 100):
        counts = labels[order[start : start + 100]].bincount(minlength=3)
        assert (counts - torch.tensor([50, 30, 20])).abs().max() <= 1
    # Within a class it is a shuffle, not the given order.
    zeros = order[labels[order] == 0]
    assert (zeros.diff() < 0).float().mean() > 0.3


@pytest.mark.parametrize("labels", [[0, 1], torch.tensor([0, 1], dtype=torch.int32)])
def test_labels_are_an_int64_tensor(labels):
    with pytest.raises(TypeError, match="labels must be an int64"):
        Split(torch.zeros(2, 1, 8, 8), labels)


def test_a_data_set_fits_together():
    split = Split(torch.zeros(2, 1, 8, 8), torch.tensor([0, 1]))
    wide = Split(torch.zeros(2, 1, 8, 9), torch.tensor([0, 1]))
    with pytest.raises(TypeError, match="test must be a Split; got NoneType"):
        Dataset("x", split, None, ("a", "b"), "moved")
    with pytest.raises(ValueError, match="class_names must name every label of train, 0 to 1"):
        Dataset("x", split, split, ("a",), "moved")
    with pytest.raises(ValueError, match="train and test must hold images of one shape"):
        Dataset("x", split, wide, ("a", "b"), "moved")

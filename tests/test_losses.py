"""The table of collapse values against the objectives themselves, at collapse."""

import math

import pytest
import torch

from repcollapse import diagnostics, losses, objectives
from repcollapse.losses import collapse_value, collapse_values, explain_loss
from repcollapse.methods import METHODS

N, D, K = 12, 7, 9
CONSTANT = torch.full((N, D), 0.3, dtype=torch.float64)
UNIT = CONSTANT / CONSTANT.norm(dim=1, keepdim=True)
ORIGIN = torch.zeros(N, D, dtype=torch.float64)
EQUAL, ONE = torch.zeros(N, K).double(), 1e3 * torch.eye(K).double()[:1].expand(N, K)
WHOLE = torch.arange(4).repeat(3)


def both(objective, z, **options):
    return objective(z, z, **options)


def triplet(z, **options):
    return torch.nn.functional.triplet_margin_loss(z, z, z, **options)


def info_nce(z):
    logits = z @ z.T / 0.07
    return torch.nn.functional.cross_entropy(logits, torch.arange(len(z)))


def soft_margin_triplet(z):
    distance = torch.nn.functional.pairwise_distance
    return torch.nn.functional.soft_margin_loss(  # log(1 + exp(-t x)), t = 1
        distance(z, z) - distance(z, z), torch.ones(len(z), dtype=z.dtype)
    )


QUEUE = UNIT[:1].expand(40, D)
CASES = [
    ("invariance", 0, {}, lambda: both(objectives.invariance, CONSTANT)),
    ("negative_cosine", 0, {}, lambda: both(objectives.negative_cosine, CONSTANT)),
    ("byol", 0, {}, lambda: both(objectives.byol, CONSTANT)),
    ("directpred", 0, {}, lambda: both(objectives.directpred, CONSTANT)),
    ("nt_xent", 0, {"pairs": N}, lambda: both(objectives.nt_xent, CONSTANT)),
    (
        "moco",
        0,
        {"queue": 40},
        lambda: both(objectives.moco, CONSTANT, queue=QUEUE),
    ),
    ("alignment_uniformity", 0, {}, lambda: both(objectives.alignment_uniformity, CONSTANT)),
    ("spectral_contrastive", 0, {}, lambda: both(objectives.spectral_contrastive, UNIT)),
    ("spectral_contrastive", 1, {}, lambda: both(objectives.spectral_contrastive, ORIGIN)),
    ("vicreg", 0, {}, lambda: both(objectives.vicreg, CONSTANT)),
    (
        "vicreg",
        0,
        {"variance": 5.0, "gamma": 2.0, "eps": 1e-2, "convention": "paper"},
        lambda: both(
            objectives.vicreg, CONSTANT, variance=5.0, gamma=2.0, eps=1e-2, convention="paper"
        ),
    ),
    ("barlow_twins", 0, {"dimension": D}, lambda: both(objectives.barlow_twins, CONSTANT)),
    ("w_mse", 0, {}, lambda: both(objectives.w_mse, CONSTANT, shrinkage=1e-3)),
    ("swav", 0, {"prototypes": K}, lambda: both(objectives.swav, EQUAL)),
    ("swav", 1, {"prototypes": K}, lambda: both(objectives.swav, ONE, balance=False)),
    ("dino", 0, {"prototypes": K}, lambda: both(objectives.dino, EQUAL)),
    ("dino", 1, {"prototypes": K}, lambda: both(objectives.dino, ONE)),
    ("sigreg", 0, {"pairs": N}, lambda: both(objectives.sigreg, ORIGIN)),
    (
        "sigreg",
        0,
        {"pairs": N, "weight": 0.3},
        lambda: both(objectives.sigreg, ORIGIN, weight=0.3),
    ),
    (
        "sigreg",
        0,
        {"pairs": N, "interval": "whole"},
        lambda: both(objectives.sigreg, ORIGIN, knots=2001, extent=20.0),
    ),
    ("clip", 0, {"pairs": N}, lambda: info_nce(UNIT)),
    ("info_nce", 0, {"pairs": N}, lambda: info_nce(UNIT)),
    ("triplet", 0, {"margin": 0.2}, lambda: triplet(CONSTANT, margin=0.2)),
    ("soft_margin_triplet", 0, {}, lambda: soft_margin_triplet(CONSTANT)),
    ("uniformity", 0, {}, lambda: diagnostics.uniformity(CONSTANT)),
    ("rotation", 0, {}, lambda: objectives.rotation(torch.zeros(12, 4), WHOLE)),
    ("jigsaw", 0, {}, lambda: objectives.jigsaw(torch.zeros(24, 24), torch.arange(24))),
]


@pytest.mark.parametrize(("name", "state", "settings", "measured"), CASES)
def test_the_table_is_what_the_objective_reads(name, state, settings, measured):
    expected = collapse_values(name, **settings)[state].value
    assert float(measured()) == pytest.approx(expected, rel=2e-7, abs=1e-12)


# What people train with that repcollapse.objectives does not have.
BESIDE = {"clip", "info_nce", "triplet", "soft_margin_triplet", "uniformity"}


def test_no_objective_is_left_out():
    assert {case[0] for case in CASES} == set(losses.STATES)
    functions = {name for name in objectives.__all__ if name.islower() and "_terms" not in name}
    helpers = {"sinkhorn", "whiten", "epps_pulley"}
    # The value of inpainting is the variance of the pixels inside the holes, which are the data's.
    assert functions - helpers - {"inpainting"} == set(losses.STATES) - BESIDE


def test_a_margin_that_was_not_given_is_not_taken_for_the_default():
    text = str(explain_loss("triplet", 0.2)).replace("\n", " ")
    assert "with a margin of 1, the default, but with one of 0.2: give margin to check" in text
    assert explain_loss("triplet", 0.2).match is None
    assert "give margin" not in str(explain_loss("triplet", 0.2, margin=0.3))
    assert explain_loss("triplet", 0.2, margin=0.2).match is not None
    assert explain_loss("triplet", 1.0).match is not None


@pytest.mark.parametrize(
    ("name", "value", "count"),
    [
        ("dino", math.log(4096), ("prototypes", 4096)),
        ("swav", math.log(3000), ("prototypes", 3000)),
        ("nt_xent", 6.236, ("pairs", 256)),
        ("moco", 11.0904, ("queue", 65536)),
        ("barlow_twins", 128.0, ("dimension", 128)),
        ("sigreg", 5.146, ("pairs", 256)),
    ],
)
def test_a_missing_count_is_found(name, value, count):
    reading = explain_loss(name, value)
    assert reading.match is not None
    assert reading.settings[count[0]] == count[1]
    assert count[1] in reading.counts
    which = str(count[1]) if len(reading.counts) == 1 else f"{count[1]} among them"
    assert f"{which}: give {count[0]} to check. A network may" in said(reading)


@pytest.mark.parametrize(
    ("name", "value", "first", "last", "shown"),
    [
        ("swav", 6.24, 511, 515, "6.24 is what swav reads at equal scores for all prototypes"),
        ("swav", 6.2383, 512, 512, "log K, if K is 512: give prototypes to check."),
        ("swav", 6.2403, 513, 513, "log K, if K is 513: give prototypes to check."),
        ("nt_xent", 5.0, 72, 78, "log(2N - 1), if N is 72 to 78: give pairs to check."),
        ("nt_xent", 5.0132, 76, 76, "5.0132 is within 0.005 of what nt_xent reads"),
    ],
)
def test_a_missing_count_makes_the_answer_an_if(name, value, first, last, shown):
    """The counts are all those whose reading rounds to the value, and no others."""
    reading = explain_loss(name, value)
    assert (reading.counts[0], reading.counts[-1]) == (first, last)
    assert shown in said(reading)
    decimals = len(repr(value).partition(".")[2])
    if "within" not in shown:
        (count,) = reading.settings
        for each in (first - 1, first, last, last + 1):
            rounded = round(collapse_value(name, **{count: each}), decimals)
            assert (rounded == value) == (first <= each <= last)


def said(reading):
    return str(reading).replace("\n", " ")


@pytest.mark.parametrize("name", ["dino", "swav"])
def test_the_other_state_needs_no_count(name):
    reading = explain_loss(name, 1e-5)
    assert reading.match is not None
    assert reading.match.minimum
    assert reading.settings == {}


@pytest.mark.parametrize(
    ("name", "value", "settings"),
    [
        ("nt_xent", 6.0, {"pairs": 256}),
        ("dino", 8.0, {"prototypes": 4096}),
        ("vicreg", 24.0, {}),
        ("vicreg", 49.5, {}),
        ("barlow_twins", 63.5, {"dimension": 64}),
        ("negative_cosine", -0.9, {}),
        ("dino", -3.0, {}),
        ("barlow_twins", 63.5, {}),
    ],
)
def test_other_values_are_not_explained_away(name, value, settings):
    reading = explain_loss(name, value, **settings)
    assert reading.match is None
    assert "is not what" in reading.text


def test_the_other_convention_is_named():
    given = explain_loss("vicreg", 49.5, convention="paper")
    assert given.match is not None and given.match.value == 49.5
    for settings in ({}, {"convention": "official"}):
        assert "but what it reads in the paper's convention" in said(
            explain_loss("vicreg", 49.5, **settings)
        )
    assert "over the whole line" in said(explain_loss("sigreg", 5.2342, pairs=256))
    assert "convention" not in said(explain_loss("vicreg", 48.0))


@pytest.mark.parametrize(
    ("name", "value"),
    [("byol", 0.0), ("byol", 0.0008), ("spectral_contrastive", 0.0), ("w_mse", 2)],
)
def test_nothing_is_said_to_equal_itself(name, value):
    assert " = " not in said(explain_loss(name, value))


@pytest.mark.parametrize("value", [24.75, 24.0, 49.5])
def test_every_answer_leads_on_to_the_embeddings(value):
    assert "the embeddings decide, so ask diagnose" in said(explain_loss("vicreg", value))


@pytest.mark.parametrize(
    ("spelt", "name"),
    [
        ("NT-Xent", "nt_xent"),
        ("ntxent", "nt_xent"),
        ("DINO", "dino"),
        ("Barlow Twins", "barlow_twins"),
        ("simclr", "nt_xent"),
        ("SimSiam", "negative_cosine"),
        ("W-MSE", "w_mse"),
        ("MoCo", "moco"),
    ],
)
def test_an_objective_may_be_spelt_as_people_do_or_be_named_by_its_method(spelt, name):
    assert explain_loss(spelt, 100.5).objective == name


def test_every_method_with_a_known_value_is_a_name():
    for name in METHODS:
        if name != "inpainting":
            assert explain_loss(name, 1.0).objective in losses.STATES


def test_a_minimum_is_called_one():
    assert "cannot tell" in str(explain_loss("negative_cosine", -0.9999)).replace("\n", " ")
    assert "cannot tell" not in str(explain_loss("vicreg", 24.75))


def test_tolerance_is_relative_to_large_values():
    assert explain_loss("barlow_twins", 1024.9, dimension=1024).match
    assert not explain_loss("barlow_twins", 1026.0, dimension=1024).match
    assert explain_loss("barlow_twins", 1026.0, dimension=1024, tolerance=0.01).match


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: collapse_value("nothing"), ValueError, "objective must be one of .*got 'nothing'"),
        (lambda: collapse_value("simclar"), ValueError, r"got 'simclar': did you mean simclr\?"),
        (lambda: collapse_value("cross"), ValueError, r"simclr.*\); got 'cross'$"),
        (lambda: collapse_value(3), ValueError, "objective must be one of .*got 3"),
        (lambda: collapse_value("sigreg", pairs=4, interval="x"), ValueError, "interval must be"),
        (lambda: collapse_value("nt_xent"), TypeError, "pairs must be given"),
        (lambda: collapse_value("nt_xent", queue=3, pairs=4), TypeError, "queue is no setting of"),
        (lambda: collapse_value("byol", pairs=4), TypeError, "expected among: none"),
        (lambda: collapse_value("nt_xent", pairs=1), ValueError, "pairs must be at least 2; got 1"),
        (lambda: collapse_value("nt_xent", pairs=2.5), TypeError, "pairs must be an integer"),
        (lambda: collapse_value("vicreg", eps=-1), ValueError, "eps must be at least 0"),
        (lambda: collapse_value("vicreg", convention="x"), ValueError, "convention must be one of"),
        (lambda: explain_loss("byol", float("nan")), ValueError, "value must be finite"),
        (lambda: explain_loss("byol", "0"), TypeError, "value must be a number"),
        (lambda: explain_loss("byol", 0, tolerance=0), ValueError, "tolerance must be above 0"),
    ],
)
def test_bad_arguments_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()

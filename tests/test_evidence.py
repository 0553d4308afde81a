"""Claims: criteria, verdicts, when none is given, and what reaches the notebook."""

from __future__ import annotations

import json
import math

import IPython.display
import numpy as np
import pytest
from scipy import stats

from repcollapse import evidence
from repcollapse.evidence import (
    MIME,
    Criterion,
    Ledger,
    describe,
    difference,
    every_seed,
    interval,
    mean_interval,
    pm,
    ratio,
    verdict,
    within,
)

BLOCK = {0: 0.01, 1: 0.02, 2: 0.03, 3: 0.02, 4: 0.01}


def ledger(**kwargs):
    return Ledger(
        "demo", **{"dataset": "digits", "steps": 400, "seeds": 5, "first_seed": 0} | kwargs
    )


def declare(book, id="a-claim", criterion=None, **kwargs):
    book.claim(
        id,
        "A falls below B.",
        **{
            "source": "Doe 2020, table 1",
            "citation": "doe2020",
            "reported": "A 1, B 2",
            "criterion": criterion or every_seed(below=0.05),
        }
        | kwargs,
    )
    return book


# --- intervals and criteria


@pytest.mark.parametrize("n", [2, 3, 5, 20])
def test_mean_interval_is_students(n):
    sample = np.random.default_rng(n).standard_normal(n) + 3
    mean, bounds = mean_interval(sample)
    expected = stats.t.interval(0.95, n - 1, loc=sample.mean(), scale=stats.sem(sample))
    assert mean == pytest.approx(sample.mean(), rel=1e-14)
    assert bounds == pytest.approx(expected, rel=1e-12)
    assert stats.ttest_1samp(sample, bounds[0]).pvalue == pytest.approx(0.05)


def test_one_value_has_no_interval_and_equal_ones_a_point():
    assert mean_interval([2.5]) == (2.5, None)
    assert mean_interval([2.5] * 5) == (2.5, (2.5, 2.5))


@pytest.mark.parametrize(("yes", "n"), [(0, 5), (3, 5), (5, 5), (1, 2), (17, 20)])
def test_the_interval_of_answers_is_that_of_the_binomial_law(yes, n):
    share, (low, high) = mean_interval([True] * yes + [False] * (n - yes))
    assert share == yes / n and 0 <= low <= share <= high <= 1
    # Either end is where what was seen, or more extreme, has the probability of a fortieth.
    assert low == 0 if yes == 0 else stats.binom.sf(yes - 1, n, low) == pytest.approx(0.025)
    assert high == 1 if yes == n else stats.binom.cdf(yes, n, high) == pytest.approx(0.025)
    assert mean_interval(np.array([True] * yes + [False] * (n - yes))) == (share, (low, high))


def test_numbers_that_happen_to_be_0_and_1_are_no_answers():
    counts = [1.0, 0.0, 0.0, 0.0, 0.0]
    expected = stats.t.interval(0.95, 4, loc=np.mean(counts), scale=stats.sem(counts))
    assert mean_interval(counts)[1] == pytest.approx(expected)
    assert mean_interval([1, 0, 0, 0, 0]) == mean_interval(counts)
    assert mean_interval([True, 0.0, 0.0, 0.0, 0.0]) == mean_interval(counts)
    assert mean_interval([True]) == (1.0, None)


def test_answers_are_judged_as_numbers_are_and_recorded_as_answers():
    told = dict(zip(range(5), [True, False, True, True, True], strict=True))
    entry = declare(ledger(), criterion=every_seed(above=0.5)).entry("a-claim", told)
    assert entry["verdict"] == "not reproduced" and entry["mean"] == 0.8
    assert entry["interval"] == pytest.approx(list(mean_interval(told.values())[1]))
    again = json.loads(json.dumps(entry))["measurements"]
    assert mean_interval(again)[1] == pytest.approx(entry["interval"])
    assert verdict(every_seed(above=0.5), again) == "not reproduced"
    assert "Measured: 0.8, 95 % interval 0.2836 to 0.9949 (seeds 0 to 4: 1, 0, 1, 1, 1)" in (
        describe(entry)
    )
    assert verdict(every_seed(above=0.5), [True] * 5) == "reproduced"
    assert verdict(interval(above=0.95), [True] * 5) == "not reproduced"
    assert verdict(interval(above=0.95), [1.0] * 5) == "reproduced"


def test_no_values_have_no_mean():
    with pytest.raises(ValueError, match="values must"):
        mean_interval([])


@pytest.mark.parametrize(
    ("criterion", "values", "met"),
    [
        (every_seed(below=0.05), [0.01, 0.04], True),
        (every_seed(below=0.05), [0.01, 0.05], False),
        (every_seed(below=0.05), [0.0] * 9 + [0.06], False),
        (every_seed(above=1), [1.1, 2.0], True),
        (every_seed(above=1), [1.0, 2.0], False),
        (every_seed(above=1, below=2), [1.1, 1.9], True),
        (every_seed(above=1, below=2), [1.1, 2.1], False),
        (every_seed(above=1, below=2), [0.9, 1.5], False),
        # Mean 2, half a width of 2.48: every seed is above 0, the interval is not.
        (every_seed(above=0), [1.0, 2.0, 3.0], True),
        (interval(above=0), [1.0, 2.0, 3.0], False),
        (interval(above=-0.5), [1.0, 2.0, 3.0], True),
        (interval(below=4.5), [1.0, 2.0, 3.0], True),
        (interval(below=4.4), [1.0, 2.0, 3.0], False),
        # One seed below, and still the mean is safely above.
        (interval(above=0), [-0.1, 1.0, 1.1, 1.2, 1.0, 1.1, 0.9, 1.0], True),
        (interval(above=0), [5.0], False),
        (within(1e-3, of=2), [2.0009], True),
        (within(1e-3, of=2), [1.9991], True),
        (within(1e-3, of=2), [2.0011], False),
        (within(1e-3, of=2), [1.9989], False),
    ],
)
def test_verdicts(criterion, values, met):
    assert verdict(criterion, values) == ("reproduced" if met else "not reproduced")


def test_criteria_in_words():
    assert str(every_seed(above=0.1, below=0.2)) == "every seed > 0.1 and < 0.2"
    assert str(interval(below=-1)) == "95 % interval of the mean < -1"
    assert str(within(0.5, of=3)) == "value within 0.5 of 3"


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (every_seed, ValueError, "needs above, below or both; got neither"),
        (interval, ValueError, "needs above, below or both; got neither"),
        (lambda: within(0, of=1), ValueError, "tolerance must be above 0; got 0"),
        (lambda: within(-1e-3, of=1), ValueError, "tolerance must be above 0; got -0.001"),
        (lambda: within("1", of=1), TypeError, "tolerance must be a number; got str"),
        (lambda: within(1e-3, of=math.nan), ValueError, "of must be finite; got nan"),
        (lambda: within(1e-3, of="2"), TypeError, "of must be a number; got str"),
        (lambda: every_seed(above="0"), TypeError, "above must be a number; got str"),
        (lambda: every_seed(below=math.nan), ValueError, "below must be finite; got nan"),
        (lambda: interval(above=True), TypeError, "above must be a number; got bool"),
        (lambda: interval(above=2, below=1), ValueError, "below must be above 2; got 1"),
    ],
)
def test_bad_criteria(call, error, message):
    with pytest.raises(error, match=message):
        call()


# --- when a claim is judged


@pytest.mark.parametrize(
    ("setting", "judged"),
    [
        ({}, True),
        ({"first_seed": 100}, True),
        ({"seeds": 7}, True),
        ({"seeds": 4}, False),
        ({"seeds": 1}, False),
        ({"steps": 399}, False),
        ({"steps": 4000}, False),
        ({"dataset": "sprites"}, False),
        ({"dataset": "fashion_mnist", "seeds": 5}, False),
    ],
)
@pytest.mark.parametrize("value", [0.01, 0.9])
def test_trained_claims_are_judged_on_the_defaults_with_five_seeds_only(setting, judged, value):
    book = declare(ledger(**setting))
    entry = book.entry("a-claim", dict.fromkeys(book.seeds, value))
    outcome = "reproduced" if value < 0.05 else "not reproduced"
    assert entry["verdict"] == (outcome if judged else "not judged")
    # Not judged is not hidden: the numbers are there.
    assert entry["measurements"] == [value] * len(book.seeds)
    assert entry["mean"] == pytest.approx(value)


@pytest.mark.parametrize(
    "setting", [{}, {"seeds": 1}, {"dataset": "sprites"}, {"steps": 10}, {"first_seed": 100}]
)
def test_exact_claims_are_judged_everywhere(setting):
    for value, outcome in ((1.0, "reproduced"), (1.2, "not reproduced")):
        entry = declare(ledger(**setting), criterion=within(0.1, of=1)).entry("a-claim", value)
        assert entry["verdict"] == outcome
        assert entry["kind"] == "exact"
        assert (entry["seeds"], entry["dataset"], entry["interval"]) == (None, None, None)
        assert entry["measurements"] == [value] and entry["mean"] == value


def test_a_trained_entry():
    entry = declare(ledger(first_seed=100)).entry(
        "a-claim", {seed + 100: value for seed, value in BLOCK.items()}
    )
    assert entry["kind"] == "trained"
    assert entry["seeds"] == [100, 101, 102, 103, 104]
    assert entry["dataset"] == "digits"
    assert entry["measurements"] == list(BLOCK.values())
    assert entry["mean"] == pytest.approx(0.018)
    assert entry["interval"] == pytest.approx(list(mean_interval(BLOCK.values())[1]))
    assert entry["expected"] == entry["verdict"] == "reproduced"
    assert entry["chapter"] == "demo"


def test_what_costs_little_is_measured_on_more_seeds():
    entry = declare(ledger()).entry("a-claim", BLOCK | {5: 0.02, 6: 0.02})
    assert entry["seeds"] == list(range(7)) and len(entry["measurements"]) == 7


def test_a_single_seed_has_no_interval():
    assert declare(ledger(seeds=1)).entry("a-claim", {0: 0.01})["interval"] is None


def test_what_is_expected_does_not_change_what_came_out():
    entry = declare(ledger(), expected="not reproduced").entry("a-claim", BLOCK)
    assert (entry["expected"], entry["verdict"]) == ("not reproduced", "reproduced")


# --- errors


@pytest.mark.parametrize(
    ("measurements", "error", "message"),
    [
        ({0: 0.1, 1: 0.1}, ValueError, r"of the seeds \[0, 1, 2, 3, 4\], or .*; got \[0, 1\]"),
        ({s + 1: 0.1 for s in range(5)}, ValueError, r"got \[1, 2, 3, 4, 5\]"),
        (BLOCK | {6: 0.1}, ValueError, "or of more that follow; got"),
        ({5: 0.1} | BLOCK, ValueError, "or of more that follow; got"),
        (BLOCK | {2: math.nan}, ValueError, "measurements of 'a-claim' must be finite"),
        (BLOCK | {2: math.inf}, ValueError, "measurements of 'a-claim' must be finite"),
        (0.1, TypeError, "measurements of a trained claim must be a mapping from seed"),
        (list(BLOCK.values()), TypeError, "must be a mapping from seed"),
    ],
)
def test_bad_measurements(measurements, error, message):
    book = declare(ledger())
    with pytest.raises(error, match=message):
        book.entry("a-claim", measurements)
    # A refused measurement leaves no trace.
    assert book.entry("a-claim", BLOCK)["verdict"] == "reproduced"


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (math.nan, ValueError, "measurements must be finite; got nan"),
        ({0: 1.0}, TypeError, "measurements of an exact claim must be one number; got a mapping"),
    ],
)
def test_bad_exact_measurements(value, error, message):
    with pytest.raises(error, match=message):
        declare(ledger(), criterion=within(0.1, of=1)).entry("a-claim", value)


def test_a_claim_is_declared_once_and_judged_once():
    book = declare(ledger())
    with pytest.raises(ValueError, match="id must be new; 'a-claim' has been declared"):
        declare(book)
    with pytest.raises(ValueError, match=r"id must be a declared claim, \['a-claim'\]; got 'b'"):
        book.entry("b", BLOCK)
    book.entry("a-claim", BLOCK)
    with pytest.raises(ValueError, match="id must be a claim not judged before; got 'a-claim'"):
        book.entry("a-claim", BLOCK)


def test_expected_must_be_a_verdict():
    for wrong in ("not judged", "yes", ""):
        with pytest.raises(ValueError, match=r"expected must be one of .*; got"):
            declare(ledger(), expected=wrong)


@pytest.mark.parametrize("given", ["mode", "remedy", "outcome"])
def test_a_place_in_the_matrix_is_complete_or_absent(given):
    with pytest.raises(ValueError, match="mode, remedy and outcome must be given together"):
        declare(ledger(), **{given: "prevented"})
    with pytest.raises(ValueError, match=r"outcome must be one of .*; got 'maybe'"):
        declare(ledger(), mode="complete", remedy="negatives", outcome="maybe")


def test_close_names_what_was_declared_and_never_judged():
    book = ledger()
    for id in ("one", "two", "three"):
        declare(book, id=id)
    book.entry("two", BLOCK)
    with pytest.raises(RuntimeError, match=r"declared but not judged: \['one', 'three'\]"):
        book.close()
    book.entry("one", BLOCK)
    book.entry("three", BLOCK)
    book.close()
    ledger().close()


# --- cells of the matrix


def kept(*values):
    return dict(enumerate(values))


@pytest.mark.parametrize(
    ("values", "outcome"),
    [
        ((0.9, 0.67, 1.2, 0.8, 0.7), "prevented"),
        ((0.9, 0.66, 1.2, 0.8, 0.7), "reduced"),
        ((0.5, 0.5, 0.5, 0.5, 0.5), "reduced"),
        ((0.1, 0.34, 0.0, -0.2, 0.3), "reduced"),
        ((0.1, 0.33, 0.0, -0.2, 0.3), "not prevented"),
    ],
)
def test_an_outcome_needs_every_seed(values, outcome):
    assert verdict(evidence.thirds(), values) == outcome
    book = ledger()
    id = book.cell("complete", "a slow target (BYOL)", measure="the spread", expected="reduced")
    assert id == "complete-a-slow-target-byol"
    entry = book.entry(id, kept(*values))
    assert (entry["kind"], entry["verdict"], entry["expected"]) == ("cell", outcome, "reduced")
    assert entry["seeds"] == [0, 1, 2, 3, 4] and entry["dataset"] == "digits" and entry["interval"]


def test_cells_are_judged_on_the_defaults_only():
    book = ledger(steps=40)
    id = book.cell("complete", "hope", measure="the spread", expected="prevented")
    assert book.entry(id, kept(1, 1, 1, 1, 1))["verdict"] == "not judged"


def test_the_criterion_of_a_cell_says_all_three_and_is_none_of_a_claim():
    text = str(evidence.thirds())
    assert "not prevented where it is < 0.33" in text and "> 0.67" in text and "reduced" in text
    with pytest.raises(ValueError, match=r"thirds\(\) is that of a cell"):
        declare(ledger(), criterion=evidence.thirds())


def test_a_cell_is_declared_once_with_an_outcome():
    book = ledger()
    book.cell("complete", "hope", measure="the spread", expected="prevented")
    with pytest.raises(ValueError, match="'complete-hope' has been declared"):
        book.cell("complete", "Hope", measure="the spread", expected="prevented")
    with pytest.raises(ValueError, match="expected must be one of"):
        book.cell("complete", "luck", measure="the spread", expected="reproduced")
    with pytest.raises(RuntimeError, match=r"not judged: \['complete-hope'\]"):
        book.close()


def test_a_column_is_shown_whole(shown):
    book = ledger()
    for mode in ("complete", "shortcut"):
        for remedy in ("hope", "luck"):
            book.cell(mode, remedy, measure="the spread", expected="prevented")
    with pytest.raises(ValueError, match=r"remedies \['hope', 'luck'\]; got \['hope'\]"):
        book.column("complete", {"hope": kept(1, 1, 1, 1, 1)})
    book.column("complete", {"hope": kept(1, 1, 1, 1, 1), "luck": kept(0, 0.1, 0, -0.5, 0)})
    ((bundle, _),) = shown
    cells = json.loads(json.dumps(bundle))[evidence.COLUMN_MIME]["cells"]
    assert [(cell["id"], cell["verdict"]) for cell in cells] == [
        ("complete-hope", "prevented"),
        ("complete-luck", "not prevented"),
    ]
    assert "| luck | -0.08 (-0.50 to 0.10) | not prevented |" in bundle["text/markdown"]


# --- what reaches the notebook


@pytest.fixture
def shown(monkeypatch):
    calls = []

    def display(bundle, metadata=None, raw=False):
        assert raw
        calls.append((bundle, metadata))

    monkeypatch.setattr(IPython.display, "display", display)
    return calls


FIELDS = {
    *("id", "statement", "source", "reported", "kind", "criterion", "expected", "measurements"),
    *("seeds", "dataset", "mean", "interval", "verdict", "chapter"),
    *("bounds", "mode", "remedy", "unit", "citation"),
}


@pytest.mark.parametrize("exact", [False, True])
def test_the_bundle(shown, exact):
    book = declare(
        ledger(),
        criterion=within(0.1, of=1) if exact else every_seed(above=0.001, below=0.05),
        mode="complete",
        remedy="negative samples",
        outcome="prevented",
        unit="nats",
    )
    # Numbers as they come out of pandas and numpy.
    book.judge("a-claim", np.float64(1) if exact else {s: np.float32(v) for s, v in BLOCK.items()})
    ((bundle, _),) = shown
    record = json.loads(json.dumps(bundle))[MIME]
    assert set(record) >= FIELDS
    bounds = record["bounds"]
    assert bounds["scope"] == ("value" if exact else "seeds")
    expected = {"target": 1, "tolerance": 0.1} if exact else {"above": 0.001, "below": 0.05}
    assert {name: bounds[name] for name in expected} == expected
    assert record["mode"] == "complete" and record["remedy"] == "negative samples"
    assert record["citation"] == "doe2020" and record["unit"] == "nats"
    text = bundle["text/markdown"]
    for part in ("a-claim", "A falls below B.", "Doe 2020, table 1", "A 1, B 2", "reproduced"):
        assert part in text
    assert record["criterion"] in text


def test_the_words_hold_every_number():
    text = describe(declare(ledger()).entry("a-claim", BLOCK))
    assert "0.018" in text and "95 % interval 0.007611 to 0.02839" in text
    assert "seeds 0 to 4: 0.01, 0.02, 0.03, 0.02, 0.01" in text
    text = describe(declare(ledger(dataset="sprites")).entry("a-claim", BLOCK))
    assert "**Claim `a-claim`: not judged.**" in text


def test_say(shown):
    evidence.say("Spread is **0.02**.")
    ((said, _),) = shown
    assert said["text/markdown"] == "Spread is **0.02**."


@pytest.mark.parametrize(
    ("values", "digits", "text"),
    [
        ({0: 0.10, 1: 0.12, 2: 0.14}, 2, "0.12 ± 0.05"),
        ([1.0, 1.0], 3, "1.000 ± 0.000"),
        ([0.5], 1, "0.5"),
        (np.array([10.0, 12.0]), 0, "11 ± 13"),
        ({0: True, 1: True}, 2, "1.00 (0.16 to 1.00)"),
        ([False], 1, "0.0"),
    ],
)
def test_pm(values, digits, text):
    assert pm(values, digits) == text


def test_differences_and_ratios_are_by_seed_whatever_their_order():
    a, b = {3: 6.0, 4: 1.0}, {4: 4.0, 3: 2.0}
    assert difference(a, b) == {3: 4.0, 4: -3.0}
    assert ratio(a, b) == {3: 3.0, 4: 0.25}
    assert list(ratio(a, b)) == [3, 4]
    for of_two in (difference, ratio):
        with pytest.raises(ValueError, match=r"a and b must be of the same seeds; got \[3, 4\]"):
            of_two(a, {3: 1.0})
    with pytest.raises(ValueError, match=r"b must not be 0; it is for the seeds \[4\]"):
        ratio(a, {3: 1.0, 4: 0.0})


@pytest.mark.parametrize("values", [[0.01, math.nan], [math.nan, 0.01], [], ["a"]])
def test_a_verdict_needs_finite_numbers(values):
    with pytest.raises(ValueError, match="measurements must"):
        verdict(every_seed(below=0.05), values)
    with pytest.raises(ValueError, match="values must"):
        mean_interval(values)


@pytest.mark.parametrize(("tolerance", "of"), [(1e-6, 1e12), (1e-17, 1.0)])
def test_the_exact_value_is_within_any_tolerance(tolerance, of):
    assert verdict(within(tolerance, of=of), [of]) == "reproduced"


@pytest.mark.parametrize("criterion", [every_seed(above=1), interval(below=2), within(0.1, of=3)])
def test_a_criterion_survives_being_written_down(criterion):
    assert Criterion.from_bounds(json.loads(json.dumps(criterion.to_bounds()))) == criterion


@pytest.mark.parametrize(
    "bounds", [{}, {"scope": "seeds"}, every_seed(above=1).to_bounds() | {"scope": "all"}]
)
def test_bounds_of_another_form_are_refused(bounds):
    with pytest.raises(ValueError, match="bounds must be what"):
        Criterion.from_bounds(bounds)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"seeds": "5"}, TypeError, "seeds must be an integer; got str"),
        ({"seeds": 0}, ValueError, "seeds must be at least 1; got 0"),
        ({"first_seed": -1}, ValueError, "first_seed must be at least 0; got -1"),
        ({"steps": 1.5}, TypeError, "steps must be an integer; got float"),
        ({"dataset": "mnist"}, ValueError, "dataset must be one of .*; got 'mnist'"),
    ],
)
def test_a_ledger_checks_what_it_is_opened_with(changes, error, message):
    known = {"dataset": "digits", "steps": 400, "seeds": 5, "first_seed": 0}
    with pytest.raises(error, match=message):
        Ledger("chapter", **known | changes)


def test_a_criterion_is_made_by_its_makers():
    ledger = Ledger("chapter", dataset="digits", steps=400, seeds=5, first_seed=0)
    with pytest.raises(TypeError, match=r"criterion must be made by .*; got str"):
        ledger.claim("a", "A.", source="S", citation=None, reported="R", criterion="> 1")

"""Verdicts: blocks, expectations in both directions, and how they are written down."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from press import ledger
from press.project import PressError, Project


def write_block(folder: Path, first_seed: int, *records: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"first_seed_{first_seed}.json").write_text(json.dumps(records))


def test_gather_refuses_an_identifier_that_occurs_twice(make: Any, executed: Any) -> None:
    one = executed("01_one", make.markdown("# One"), make.code("", outputs=[make.claim_output()]))
    two = executed("02_two", make.markdown("# Two"), make.code("", outputs=[make.claim_output()]))
    with pytest.raises(PressError, match=r"'a-claim' is recorded twice: in 01_one.* and in 02_two"):
        ledger.gather([one, two])


def test_gather_keeps_the_order_and_knows_the_chapter(make: Any, executed: Any) -> None:
    found = [make.claim_output("b"), make.claim_output("a", mode="complete", citation=None)]
    chapter = executed("01_one", make.markdown("# The title"), make.code("", outputs=found))
    claims = ledger.gather([chapter])
    assert [(c.id, c.title, c.notebook, c.mode) for c in claims] == [
        ("b", "The title", "01_one", None),
        ("a", "The title", "01_one", "complete"),
    ]


@pytest.mark.parametrize("name", ledger.REQUIRED)
def test_an_incomplete_record_is_refused(make: Any, name: str) -> None:
    record = make.claim_record()
    del record[name]
    with pytest.raises(PressError, match=rf"01_one.ipynb: claim .* lacks {name}"):
        ledger.parse(record, "01_one", "One")


@pytest.mark.parametrize("name", ["kind", "expected", "verdict"])
def test_an_unknown_word_is_refused(make: Any, name: str) -> None:
    with pytest.raises(PressError, match=rf"has {name} 'perhaps', expected one of"):
        make.claim(**{name: "perhaps"})


def test_without_blocks_the_run_decides(make: Any, tmp_path: Path) -> None:
    (claim,) = ledger.add_blocks([make.claim()], tmp_path)
    assert claim.verdict == "reproduced"
    assert claim.blocks == (make.claim().block,)


@pytest.mark.parametrize(
    ("here", "there", "verdict"),
    [
        ("reproduced", "reproduced", "reproduced"),
        ("reproduced", "not reproduced", "not reproduced"),
        ("not reproduced", "reproduced", "not reproduced"),
        ("not reproduced", "not reproduced", "not reproduced"),
        ("not judged", "reproduced", "not judged"),
        ("not judged", "not reproduced", "not judged"),
    ],
)
def test_reproduced_means_in_every_block(
    make: Any, tmp_path: Path, here: str, there: str, verdict: str
) -> None:
    write_block(tmp_path, 100, make.claim_record(seeds=[100, 101, 102], verdict=there))
    (claim,) = ledger.add_blocks([make.claim(verdict=here)], tmp_path)
    assert claim.verdict == verdict
    assert [block.verdict for block in claim.blocks] == [here, there]
    assert claim.blocks[1].seeds == [100, 101, 102]


def test_a_block_of_the_same_seeds_is_no_second_witness(make: Any, tmp_path: Path) -> None:
    write_block(tmp_path, 0, make.claim_record(verdict="not reproduced"))
    (claim,) = ledger.add_blocks([make.claim()], tmp_path)
    assert claim.verdict == "reproduced"
    assert len(claim.blocks) == 1


def test_exact_claims_have_no_other_block(make: Any, tmp_path: Path) -> None:
    write_block(tmp_path, 100)
    exact = make.claim(kind="exact", seeds=None, interval=None, dataset=None)
    (claim,) = ledger.add_blocks([exact], tmp_path)
    assert claim.verdict == "reproduced"
    assert len(claim.blocks) == 1


def test_a_block_that_knows_another_criterion_is_stale(make: Any, tmp_path: Path) -> None:
    write_block(tmp_path, 100, make.claim_record(seeds=[100], criterion="below 0.5"))
    with pytest.raises(PressError, match=r"'a-claim'.*another criterion.*FIRST_SEED=100"):
        ledger.add_blocks([make.claim()], tmp_path)


def test_a_block_that_lacks_a_claim_or_has_one_too_many_is_stale(make: Any, tmp_path: Path) -> None:
    write_block(tmp_path, 100, make.claim_record("old", seeds=[100]))
    with pytest.raises(PressError, match=r"a claim 'old' that no chapter.*FIRST_SEED=100"):
        ledger.add_blocks([make.claim()], tmp_path)
    write_block(tmp_path, 100)
    with pytest.raises(PressError, match=r"'a-claim' is not in .*first_seed_100.json"):
        ledger.add_blocks([make.claim()], tmp_path)


@pytest.mark.parametrize(
    ("verdict", "expected", "surprising"),
    [
        ("reproduced", "reproduced", False),
        ("not reproduced", "not reproduced", False),
        ("not judged", "reproduced", False),
        ("not judged", "not reproduced", False),
        ("not reproduced", "reproduced", True),
        ("reproduced", "not reproduced", True),
    ],
)
def test_a_difference_in_either_direction_is_named(
    make: Any, tmp_path: Path, verdict: str, expected: str, surprising: bool
) -> None:
    claims = ledger.add_blocks([make.claim(verdict=verdict, expected=expected)], tmp_path)
    found = ledger.surprises(claims)
    assert bool(found) == surprising
    for text in found:
        assert text.startswith(f"claim 'a-claim' (01_one.ipynb) is {verdict}, expected {expected}")
        assert "spread below 0.01" in text
        assert "seeds 0 to 2" in text


def test_the_public_form_has_exactly_its_fields(make: Any, tmp_path: Path) -> None:
    (claim,) = ledger.add_blocks([make.claim()], tmp_path)
    record = ledger.as_json(claim)
    assert list(record) == [
        *("id", "statement", "source", "reported", "kind", "criterion", "expected"),
        *("measurements", "seeds", "dataset", "mean", "interval", "verdict", "chapter", "blocks"),
    ]
    assert record["blocks"][0]["measurements"] == record["measurements"]


def test_a_replication_holds_the_trained_claims_and_reads_back(make: Any, project: Project) -> None:
    again = make.claim(seeds=[100, 101, 102], verdict="not reproduced")
    exact = make.claim("exact", kind="exact", seeds=None)
    path = ledger.write_replication(project, 100, [again, exact])
    assert path.name == "first_seed_100.json"
    assert list(ledger.read_replication(path)) == ["a-claim"]
    (claim,) = ledger.add_blocks([make.claim()], project.replications)
    assert claim.verdict == "not reproduced"


def test_an_unjudged_run_makes_no_replication(make: Any, project: Project) -> None:
    with pytest.raises(PressError, match=r"'a-claim' was not judged"):
        ledger.write_replication(project, 100, [make.claim(verdict="not judged")])
    assert not project.replications.exists()


def test_a_card_says_everything(make: Any, tmp_path: Path) -> None:
    write_block(tmp_path, 100, make.claim_record(seeds=[100, 101, 102], verdict="not reproduced"))
    (claim,) = ledger.add_blocks(
        [make.claim(citation="chen2021", expected="not reproduced", unit="nats")], tmp_path
    )
    card = ledger.card(claim, "claim-a-claim")
    for part in (
        "(claim-a-claim)=",
        "{rc-verdict}`not reproduced`",
        "It collapses.",
        "Table 1 {cite:p}`chen2021`",
        "constant",
        "spread below 0.01 in every seed",
        "mean 0.002 nats, 95 % interval 0.001 to 0.003, seeds 0 to 2, digits (reproduced)",
        "seeds 100 to 102, digits (not reproduced)",
    ):
        assert part in card


def test_the_matrix_links_modes_and_remedies_to_claims(make: Any) -> None:
    claims = [
        make.claim("a", mode="complete", remedy="negatives", outcome="prevented"),
        make.claim(
            "b", mode="complete", remedy="negatives", outcome="prevented", verdict="not reproduced"
        ),
        make.claim("c", mode="dimensional", remedy="variance", outcome="not prevented"),
        make.claim("d"),
    ]
    assert ledger.matrix(claims).splitlines() == [
        "| remedy | complete | dimensional |",
        "|:--|:--|:--|",
        "| **negatives** | [prevented](#claim-a), [prevented? not reproduced](#claim-b) "
        "| not tested |",
        "| **variance** | not tested | [not prevented](#claim-c) |",
    ]


def test_the_page_groups_by_chapter_and_links_to_the_cell(make: Any) -> None:
    second = replace(make.claim("b"), notebook="02_two", title="Two")
    page = ledger.page([make.claim("a"), second])
    assert page.index("## One") < page.index("(ledger-a)=") < page.index("## Two")
    assert "[Two](#claim-b)" in page


def test_the_summary_counts(make: Any) -> None:
    claims = [make.claim("a"), make.claim("b", verdict="not reproduced", kind="exact", seeds=None)]
    text = ledger.summary(claims)
    assert text.startswith("**2** claims: **1** reproduced, **1** not reproduced.")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (0.12345, "0.123"),
        (-1.5, "−1.5"),
        (12345.6, "12346"),
        (2.5e-7, "2.5 · 10⁻⁷"),
        (-3e8, "−3.0 · 10⁸"),
        (float("inf"), "inf"),
    ],
)
def test_numbers_for_people(value: float, text: str) -> None:
    assert ledger.number(value) == text

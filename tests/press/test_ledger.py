"""Verdicts: blocks, expectations in both directions, and how they are written down."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from press import ledger
from press.project import PressError, Project

SEEDS = [100, 101, 102, 103, 104]


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
    write_block(tmp_path, 100, make.claim_record(seeds=SEEDS, verdict=there))
    (claim,) = ledger.add_blocks([make.claim(verdict=here)], tmp_path)
    assert claim.verdict == verdict
    assert [block.verdict for block in claim.blocks] == [here, there]
    assert claim.blocks[1].seeds == SEEDS


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


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"statement": "It shines."}, "has another statement .'It shines.', the claim 'It coll"),
        ({"kind": "exact"}, "has another kind"),
        ({"dataset": "sprites"}, "has another dataset .'sprites', the claim 'digits'"),
        ({"criterion": "every seed < 0.011"}, "has another criterion"),
        ({"mean": 0.003}, r"records mean and interval \[0.003, .* give \[0.002, "),
        ({"interval": [0.0, 0.0032]}, "records mean and interval"),
        ({"interval": None}, "records mean and interval"),
        ({"verdict": "not reproduced"}, "records the verdict 'not reproduced'.*give 'reproduced'"),
        ({"seeds": SEEDS[:4]}, "5 measurements for the seeds .100, 101, 102, 103."),
        ({"seeds": [100, 101, 102, 103, 103]}, "one for each of at least 5 seeds"),
        ({"seeds": SEEDS[:2], "measurements": [0.001, 0.002]}, "at least 5 seeds"),
    ],
)
def test_a_block_that_disagrees_with_the_claim_or_with_itself_is_refused(
    make: Any, tmp_path: Path, change: dict[str, Any], told: str
) -> None:
    write_block(tmp_path, 100, make.claim_record(seeds=SEEDS) | change)
    with pytest.raises(PressError, match=rf"'a-claim'.*{told}.*make replicate FIRST_SEED=100"):
        ledger.add_blocks([make.claim()], tmp_path)


def test_a_change_of_one_measurement_is_noticed(make: Any, tmp_path: Path) -> None:
    record = make.claim_record(seeds=SEEDS)
    record["measurements"] = [*record["measurements"][:-1], 0.02]
    write_block(tmp_path, 100, record)
    with pytest.raises(PressError, match=r"mean and interval.*, and records the verdict"):
        ledger.add_blocks([make.claim()], tmp_path)


def test_the_last_digit_may_be_another_machines(make: Any, tmp_path: Path) -> None:
    record = make.claim_record(seeds=SEEDS)
    record["mean"] *= 1 + 1e-15
    write_block(tmp_path, 100, record)
    (claim,) = ledger.add_blocks([make.claim()], tmp_path)
    assert len(claim.blocks) == 2


def test_a_run_on_other_data_still_shows_the_blocks(make: Any, tmp_path: Path) -> None:
    write_block(tmp_path, 100, make.claim_record(seeds=SEEDS))
    (claim,) = ledger.add_blocks([make.claim(dataset="sprites", verdict="not judged")], tmp_path)
    assert claim.verdict == "not judged"
    assert [block.dataset for block in claim.blocks] == ["sprites", "digits"]


@pytest.mark.parametrize("text", ["", "{", "{}x", "[1]", '{"a": 1}', "3"])
def test_a_file_that_holds_no_claims_is_refused(make: Any, tmp_path: Path, text: str) -> None:
    (tmp_path / "first_seed_100.json").write_text(text)
    with pytest.raises(PressError, match=r"first_seed_100.json is not a list .*FIRST_SEED=100"):
        ledger.add_blocks([make.claim()], tmp_path)


@pytest.mark.parametrize("name", ["measurements", "dataset", "verdict"])
def test_an_incomplete_block_is_refused(make: Any, tmp_path: Path, name: str) -> None:
    record = make.claim_record(seeds=SEEDS)
    del record[name]
    write_block(tmp_path, 100, record)
    with pytest.raises(PressError, match=r"'a-claim' is incomplete in .*first_seed_100.json"):
        ledger.add_blocks([make.claim()], tmp_path)


@pytest.mark.parametrize("bounds", [{}, None, {"scope": "seeds"}])
def test_bounds_that_are_none_are_refused(make: Any, bounds: Any) -> None:
    with pytest.raises(PressError, match=r"01_one.ipynb: claim 'a-claim': "):
        make.claim(bounds=bounds)


def test_a_block_older_than_its_sources_is_named(make: Any, project: Project) -> None:
    def warned() -> list[str]:
        return ledger.outdated(project, [make.claim()])

    assert warned() == []
    ledger.write_replication(project, 100, [make.claim(seeds=SEEDS)])
    assert warned() == []
    module = project.package / "package" / "__init__.py"
    module.write_text("VALUE = 2\n")
    (line,) = warned()
    assert "first_seed_100.json is older" in line
    assert "01_one" in line
    assert "make replicate FIRST_SEED=100" in line
    module.write_text("VALUE = 1\n")
    assert warned() == []
    notebook = project.notebooks[0]
    content = json.loads(notebook.read_text())
    content["cells"].append(make.code("again = 1"))
    notebook.write_text(json.dumps(content))
    assert len(warned()) == 1
    write_block(project.replications, 100, make.claim_record(seeds=SEEDS))  # without a digest
    assert len(warned()) == 1


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
        assert "every seed < 0.01" in text
        assert "seeds 0 to 4" in text


def test_the_public_form_has_exactly_its_fields(make: Any, tmp_path: Path) -> None:
    (claim,) = ledger.add_blocks([make.claim()], tmp_path)
    record = ledger.as_json(claim)
    assert list(record) == [
        *("id", "statement", "source", "reported", "kind", "criterion", "expected"),
        *("measurements", "seeds", "dataset", "mean", "interval", "verdict", "chapter", "blocks"),
    ]
    assert record["blocks"][0]["measurements"] == record["measurements"]


def test_a_replication_holds_the_trained_claims_and_reads_back(make: Any, project: Project) -> None:
    again = make.claim(seeds=SEEDS, verdict="not reproduced")
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
    write_block(tmp_path, 100, make.claim_record(seeds=SEEDS, verdict="not reproduced"))
    (claim,) = ledger.add_blocks(
        [make.claim(citation="chen2021", expected="not reproduced", unit="nats")], tmp_path
    )
    card = ledger.card(claim, "claim-a-claim", link="[the ledger](#ledger-a-claim)")
    for part in (
        "(claim-a-claim)=",
        "{rc-verdict}`not reproduced`",
        "It collapses.",
        "Table 1 {cite:p}`chen2021`",
        "constant",
        "every seed < 0.01",
        "mean 0.002 nats, 95 % interval 7.6 · 10⁻⁴ to 0.00324, seeds 0 to 4, digits (reproduced)",
        "seeds 100 to 104, digits (not reproduced)",
        "- **Also in:** [the ledger](#ledger-a-claim)",
    ):
        assert part in card


def test_what_did_not_reproduce_is_listed_first(make: Any) -> None:
    failed = make.claim("a", verdict="not reproduced", expected="not reproduced")
    listed = ledger.page([make.claim("b"), failed]).split("(ledger-b)=")[0]
    assert listed.splitlines()[0] == "## What did not reproduce"
    assert f"- [{failed.statement}](#ledger-a)" in listed and "#ledger-b" not in listed
    assert "What did not reproduce" not in ledger.page([make.claim("b")])


def test_a_share_of_answers_is_called_one() -> None:
    block = ledger.Block([True] * 5, [*range(5)], "digits", 1.0, [0.478, 1.0], "reproduced")
    assert ledger.describe_block(block, None) == (
        "yes in a share of 1, 95 % interval (binomial) 0.478 to 1, seeds 0 to 4, digits"
    )


def test_claims_with_a_place_are_listed_by_chapter(make: Any) -> None:
    claims = [
        make.claim("a", mode="complete", remedy="negatives", outcome="prevented"),
        make.claim(
            "b", mode="complete", remedy="negatives", outcome="prevented", verdict="not reproduced"
        ),
        make.claim("d"),
        replace(
            make.claim("c", mode="dimensional", remedy="variance", outcome="not prevented"),
            notebook="02_two",
            title="Two",
        ),
    ]
    listed = [line for line in ledger.places(claims, pictured={"a"}).splitlines() if line]
    assert listed == [
        "::::{div} rc-places",
        "**One**",
        "- {rc-cell}`a` [negatives](#claim-a): complete collapse prevented",
        "- [negatives](#claim-b): complete collapse prevented? not reproduced",
        "**Two**",
        "- [variance](#claim-c): dimensional collapse not prevented",
        "::::",
    ]
    assert ledger.places([make.claim("d")], pictured=set()) == ""


# --- cells of the matrix


def grid(make: Any, *cells: dict[str, Any]) -> list[ledger.Claim]:
    return [ledger.parse(cell, "01_one", "One") for cell in cells]


def test_the_matrix_has_a_row_a_remedy_and_a_column_a_mode(make: Any) -> None:
    low = [0.1, 0.2, 0.1, 0.0, 0.3]
    cells = grid(
        make,
        make.grid_cell("complete", "nothing", measurements=low, expected="not prevented"),
        make.grid_cell("complete", "variance"),
        make.grid_cell("shortcut", "nothing", verdict="not judged"),
        make.grid_cell("shortcut", "variance"),
    )
    text = ledger.matrix([make.claim(), *cells])
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert rows[0] == "| remedy | complete | shortcut |"
    assert rows[2] == (
        "| **nothing** | [{rc-cell}`complete-nothing` {rc-outcome}`not prevented`]"
        "(#chapter-column-complete) | [{rc-cell}`shortcut-nothing` {rc-outcome}`not judged`]"
        "(#chapter-column-shortcut) |"
    )
    assert rows[3].startswith("| **variance** |") and len(rows) == 4
    with pytest.raises(PressError, match="no cell for 'variance' in the column 'shortcut'"):
        ledger.matrix(cells[:3])
    assert ledger.matrix([make.claim()]) == ""


def test_gather_reads_columns(make: Any, executed: Any) -> None:
    column = make.column_output(make.grid_cell("complete", "a"), make.grid_cell("complete", "b"))
    outputs = [column, make.claim_output()]
    chapter = executed("01_one", make.markdown("# One"), make.code("", outputs=outputs))
    assert [(c.id, c.kind) for c in ledger.gather([chapter])] == [
        ("a-claim", "trained"),
        ("complete-a", "cell"),
        ("complete-b", "cell"),
    ]


@pytest.mark.parametrize("name", ["expected", "verdict"])
def test_a_verdict_of_a_claim_is_no_outcome(make: Any, name: str) -> None:
    with pytest.raises(PressError, match=rf"has {name} 'reproduced', expected one of 'prevented'"):
        grid(make, make.grid_cell("complete", "a", **{name: "reproduced"}))
    with pytest.raises(PressError, match=rf"has {name} 'prevented', expected one of 'reproduced'"):
        make.claim(**{name: "prevented"})


@pytest.mark.parametrize(
    ("there", "outcome"),
    [
        ([0.9, 0.8, 1.1, 0.7, 0.95], "prevented"),
        ([0.9, 0.8, 1.1, 0.6, 0.95], "reduced"),
        ([0.1, 0.2, 0.1, 0.0, 0.3], "reduced"),
    ],
)
def test_the_outcome_of_a_cell_is_that_of_all_blocks(
    make: Any, tmp_path: Path, there: list[float], outcome: str
) -> None:
    """And where it is not the expected one, the build has something to say."""
    block = make.grid_cell("complete", "a", seeds=SEEDS, measurements=there)
    write_block(tmp_path, 100, block)
    (cell,) = ledger.add_blocks(grid(make, make.grid_cell("complete", "a")), tmp_path)
    assert cell.verdict == outcome
    assert [block.measurements for block in cell.blocks][1] == there
    said = ledger.surprises([cell])
    assert bool(said) == (outcome != "prevented")
    if said:
        assert said[0].startswith(f"cell 'complete-a' (01_one.ipynb) is {outcome}, expected prev")


def test_a_block_of_a_cell_is_checked_and_needed(make: Any, tmp_path: Path) -> None:
    cells = grid(make, make.grid_cell("complete", "a"))
    write_block(tmp_path, 100)
    with pytest.raises(PressError, match=r"'complete-a' is not in .*run `make replicate"):
        ledger.add_blocks(cells, tmp_path)
    write_block(tmp_path, 100, make.grid_cell("complete", "a", seeds=SEEDS, verdict="reduced"))
    with pytest.raises(PressError, match="records the verdict 'reduced', its measurements give"):
        ledger.add_blocks(cells, tmp_path)


def test_a_replication_holds_the_cells(make: Any, project: Project) -> None:
    cell = replace(grid(make, make.grid_cell("complete", "a"))[0], seeds=SEEDS)
    path = ledger.write_replication(project, 100, [cell])
    assert list(ledger.read_replication(path)) == ["complete-a"]


def test_cells_are_counted_and_tabulated_apart(make: Any) -> None:
    cells = grid(make, make.grid_cell("complete", "a"), make.grid_cell("complete", "b"))
    text = ledger.summary([make.claim(), *cells])
    assert text.startswith("**1** claims: **1** reproduced.")
    assert text.endswith("**2** cells of the matrix are measured.")
    page = ledger.page([make.claim(), *cells])
    assert page.count("(ledger-column-complete)=") == 1
    assert "| b | 0.89 (0.70 to 1.10) | prevented |" in page
    assert "ledger-complete-a" not in page


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

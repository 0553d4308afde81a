"""Runs over arms and seeds."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import SimpleNamespace

import pytest
import torch

from repcollapse.modes.runs import once, repeat


def drawn(seed: int) -> SimpleNamespace:
    return SimpleNamespace(seed=seed, drawn=float(torch.rand(())))


def test_every_arm_runs_on_every_seed_and_two_arms_start_from_the_same_numbers() -> None:
    runs = repeat({"one": drawn, "other": drawn}, seeds=3, first_seed=7)
    assert (runs.arms, runs.seeds) == (["one", "other"], [7, 8, 9])
    assert runs.values("one", "seed") == {7: 7.0, 8: 8.0, 9: 9.0}
    assert runs.values("one", "drawn") == runs.values("other", "drawn")
    assert len(set(runs.values("one", "drawn").values())) == 3


def test_one_run_is_that_of_its_arm() -> None:
    assert once(drawn, 8) == repeat({"one": drawn}, seeds=3, first_seed=7).results["one"][8]
    with pytest.raises(ValueError, match="seed must be at least 0; got -1"):
        once(drawn, -1)


@pytest.mark.parametrize("call", [lambda: repeat({"one": drawn}, seeds=2), lambda: once(drawn, 1)])
def test_the_global_generator_is_put_back(call: Callable[[], object]) -> None:
    torch.manual_seed(0)
    expected = torch.rand(2)
    torch.manual_seed(0)
    first = torch.rand(())
    call()
    assert torch.equal(torch.stack([first, torch.rand(())]), expected)


@pytest.mark.parametrize(("seeds", "arms"), [(0, {"one": drawn}), (1, {})])
def test_runs_need_a_seed_and_an_arm(seeds: int, arms: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"(seeds|arms) must"):
        repeat(arms, seeds=seeds)  # type: ignore[arg-type]


def test_a_table_has_a_row_for_each_arm_and_seed() -> None:
    runs = repeat({"one": drawn, "other": drawn}, seeds=2, first_seed=7)
    table = runs.table("drawn")
    assert list(table.columns) == ["arm", "seed", "drawn"]
    assert table["arm"].tolist() == ["one", "one", "other", "other"]
    assert table["seed"].tolist() == [7, 8, 7, 8]
    for arm in runs.arms:
        of_arm = table[table["arm"] == arm].set_index("seed")["drawn"]
        assert of_arm.to_dict() == runs.values(arm, "drawn")
    with pytest.raises(AttributeError, match="spread"):
        runs.table("spread")


def nested(seed: int) -> SimpleNamespace:
    return SimpleNamespace(usage=SimpleNamespace(used=seed, share=seed / 10))


def test_a_dotted_name_reaches_into_an_attribute() -> None:
    runs = repeat({"one": nested}, seeds=2, first_seed=7)
    assert runs.values("one", "usage.used") == {7: 7.0, 8: 8.0}
    table = runs.table("usage.share", "usage.used")
    assert list(table.columns) == ["arm", "seed", "usage.share", "usage.used"]
    assert table["usage.share"].tolist() == [0.7, 0.8]
    for name, missing in (("usage.spread", "spread"), ("load.used", "load"), ("used", "used")):
        for read in (runs.table, partial(runs.values, "one")):
            with pytest.raises(AttributeError, match=f"no attribute '{missing}'"):
                read(name)


def test_an_arm_that_is_not_there_is_named() -> None:
    runs = repeat({"one": drawn}, seeds=1)
    with pytest.raises(ValueError, match="arm must be one of"):
        runs.of("two")
    with pytest.raises(ValueError, match="arm must be one of"):
        runs.values("two", "seed")

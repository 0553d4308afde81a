"""Two towers on halves of images: where they start, and what a seed governs."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from repcollapse.modes.halves import halves
from repcollapse.modes.runs import once, repeat
from repcollapse.modes.towers import Setting, Towers, train


def test_centred_towers_have_no_mean():
    world = halves("digits", 900)
    towers = Towers(32)
    towers.centre(world.train_a, world.train_b)
    for tower, rows in ((towers.a, world.train_a), (towers.b, world.train_b)):
        torch.testing.assert_close(tower(rows).mean(dim=0), torch.zeros(64), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("start", "low", "high"), [("random", 0.7, 2), ("centred", 0, 0.2)])
def test_where_towers_start(start, low, high):
    assert low < once(partial(train, Setting(start=start), steps=0), 900).gap < high


def test_a_copy_gives_equal_rows_to_equal_halves():
    run = partial(train, Setting(start="copy", sides=("left", "left")), steps=0)
    assert torch.equal(*once(run, 900).rows[0])
    assert once(partial(train, Setting(start="copy"), steps=0), 900).gap > 0.7


def test_a_seed_governs_all_and_reading_changes_nothing():
    run = partial(train, Setting(), steps=6)
    runs = repeat({"one": run, "two": partial(run, at=(2, 4))}, seeds=2, first_seed=900)
    one, two = runs.of("one"), runs.of("two")
    assert torch.equal(one[0].rows[6][0], two[0].rows[6][0])
    assert not torch.equal(one[0].rows[6][0], one[1].rows[6][0])
    assert list(two[0].rows) == [0, 2, 4, 6]
    assert runs.values("one", "gap")[900] == pytest.approx(one[0].checkup.metrics["gap"])
    assert runs.values("one", "first_gap")[900] == one[0].gaps[0]


def test_the_judged_step_is_read_and_has_to_be_reached():
    trained = once(partial(train, Setting(), steps=4, judged=3), 900)
    assert list(trained.rows) == [0, 3, 4]
    assert trained.gap == trained.gaps[3] != trained.gaps[4]
    with pytest.raises(ValueError, match="judged must be at least 0 and at most 4; got 5"):
        train(Setting(), 900, steps=4, judged=5)


def test_a_schedule_is_asked_for_the_share_of_steps_done():
    asked = []

    def schedule(done):
        asked.append(done)
        return 0.1

    train(Setting(temperature=schedule), 900, steps=4)
    assert set(asked) == {0, 0.25, 0.5, 0.75, 1}
    train(Setting(temperature=schedule), 900, steps=0)
    assert asked[-1] == 0


def test_a_loss_is_given_both_towers_and_the_temperature():
    given = []

    def loss(u, v, *, temperature):
        given.append((u.shape, v.shape, temperature))
        return (u * v).sum()

    train(Setting(temperature=0.3, loss=loss), 900, steps=1)
    assert given == [((128, 64), (128, 64), 0.3)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start": "elsewhere"}, "start must be one of"),
        ({"temperature": 0}, "temperature must be above 0"),
    ],
)
def test_what_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Setting(**options)

"""Checkpoints: whole or refused, never run, the last two kept."""

from __future__ import annotations

import os
import pickle
import random
from pathlib import Path

import pytest
import torch

from repcollapse.pretraining import checkpoints
from repcollapse.pretraining.checkpoints import CheckpointError


def state(step: int = 1) -> dict:
    generator = torch.Generator().manual_seed(step)
    return {
        "format": checkpoints.FORMAT,
        "step": step,
        "model": {"weight": torch.randn(20, 30, generator=generator)},
        "history": [{"step": 1, "loss": 0.5}],
    }


def equal(a: dict, b: dict) -> bool:
    rest = [{k: v for k, v in each.items() if k != "model"} for each in (a, b)]
    return rest[0] == rest[1] and torch.equal(a["model"]["weight"], b["model"]["weight"])


def test_what_was_saved_is_read(tmp_path):
    path = checkpoints.save(tmp_path, state(7))
    assert path.name == "checkpoint-000000007.pt"
    assert equal(checkpoints.read(path), state(7))
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_anyone_can_load_it_with_torch(tmp_path):
    path = checkpoints.save(tmp_path, state())
    assert equal(torch.load(path, weights_only=True), state())


def test_the_last_two_are_kept(tmp_path):
    for step in (5, 10, 100, 20_000):
        checkpoints.save(tmp_path, state(step))
    assert [int(p.stem[-9:]) for p in checkpoints.found(tmp_path)] == [20_000, 100]


def test_other_files_are_left_alone(tmp_path):
    (tmp_path / "checkpoint-best.pt").write_text("mine")
    for step in (1, 2, 3):
        checkpoints.save(tmp_path, state(step))
    assert (tmp_path / "checkpoint-best.pt").read_text() == "mine"


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused(tmp_path, share):
    path = checkpoints.save(tmp_path, state())
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(CheckpointError, match=r"checkpoint-000000001.pt: damaged or cut short"):
        checkpoints.read(path)


def test_a_flipped_bit_is_refused_or_without_effect(tmp_path):
    path = checkpoints.save(tmp_path, state())
    data = path.read_bytes()
    draw, refused = random.Random(0), 0
    for _ in range(200):
        place, bit = draw.randrange(len(data)), 1 << draw.randrange(8)
        path.write_bytes(data[:place] + bytes([data[place] ^ bit]) + data[place + 1 :])
        try:
            assert equal(checkpoints.read(path), state())  # a bit of padding
        except CheckpointError:
            refused += 1
    assert refused > 100


def test_a_flipped_bit_of_a_weight_is_refused(tmp_path):
    path = checkpoints.save(tmp_path, state())
    data = bytearray(path.read_bytes())
    weight = state()["model"]["weight"].numpy().tobytes()
    data[data.index(weight) + 100] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"damaged: the checksum of its part .* is wrong"):
        checkpoints.read(path)


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("exploded",)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_does_more_is_refused_and_not_run(tmp_path, monkeypatch, zipped):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "checkpoint-000000001.pt"
    if zipped:
        torch.save(state() | {"more": Bomb()}, path)
    else:
        path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(CheckpointError, match=r"refused: it holds more|damaged or cut short"):
        checkpoints.read(path)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("content", [{"weight": torch.zeros(1)}, {"format": 0}, [1, 2]])
def test_a_file_of_another_kind_is_refused(tmp_path, content):
    path = tmp_path / "checkpoint-000000001.pt"
    torch.save(content, path)
    with pytest.raises(CheckpointError, match="no checkpoint of this version"):
        checkpoints.read(path)


def test_the_newest_whole_one_is_used(tmp_path):
    said: list[str] = []
    assert checkpoints.newest(tmp_path, said.append) is None
    for step in (1, 2):
        newest = checkpoints.save(tmp_path, state(step))
    assert equal(checkpoints.newest(tmp_path, said.append), state(2))
    assert not said
    newest.write_bytes(newest.read_bytes()[:-100])
    assert equal(checkpoints.newest(tmp_path, said.append), state(1))
    assert len(said) == 1
    assert "checkpoint-000000002.pt: damaged" in said[0]
    assert said[0].endswith("the one before it is used")


def test_none_whole_is_an_error(tmp_path):
    for step in (1, 2):
        checkpoints.save(tmp_path, state(step)).write_bytes(b"")
    with pytest.raises(CheckpointError, match="all checkpoints are damaged; --no-resume"):
        checkpoints.newest(tmp_path, lambda message: None)


def test_what_a_killed_process_left_is_removed(tmp_path):
    left = tmp_path / ".repcollapse-0123456789abcdef.part"
    left.write_bytes(b"half")
    other = Path(tmp_path / ".mine")
    other.write_text("")
    checkpoints.clean(tmp_path)
    assert not left.exists() and other.exists()

"""The metrics of torchmetrics: batches, precisions, processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from repcollapse import diagnose, diagnostics

pytest.importorskip("torchmetrics")

from torchmetrics import MetricCollection

from repcollapse import metrics

Z = torch.randn(240, 6, generator=torch.Generator().manual_seed(0)) * torch.arange(1, 7) + 3
ALL = {
    "spread": metrics.Spread(6),
    "mean_share": metrics.MeanShare(6),
    "stable_rank": metrics.StableRank(6),
    "effective_rank": metrics.EffectiveRank(6),
    "rankme": metrics.RankMe(6),
    "participation_ratio": metrics.ParticipationRatio(6),
}


@pytest.mark.parametrize("name", ALL)
def test_batches_give_the_number_of_all_rows(name):
    metric = ALL[name].clone()
    for batch in Z.split(50):
        metric.update(batch)
    assert float(metric.compute()) == pytest.approx(getattr(diagnostics, name)(Z), rel=1e-9)
    metric.reset()
    metric.update(Z[:70])
    assert float(metric.compute()) == pytest.approx(getattr(diagnostics, name)(Z[:70]), rel=1e-9)


def test_forward_returns_the_batch_and_keeps_the_whole():
    metric = metrics.ParticipationRatio(6, unbiased=True)
    first, last = [metric(batch) for batch in Z.split(120)]
    ratio = [
        float(diagnostics.participation_ratio(z, unbiased=True)) for z in (Z[:120], Z[120:], Z)
    ]
    assert [float(first), float(last), float(metric.compute())] == pytest.approx(ratio, rel=1e-9)


def test_a_collection_has_one_state():
    collection = MetricCollection({name: metric.clone() for name, metric in ALL.items()})
    for batch in Z.split(60):
        collection.update(batch)
    assert len(collection.compute_groups) == 1
    found = collection.compute()
    for name in ALL:
        assert float(found[name]) == pytest.approx(getattr(diagnostics, name)(Z), rel=1e-9)


@pytest.mark.parametrize("convert", [lambda m: m.to(torch.float32), lambda m: m.half()])
def test_other_precisions_of_a_module_do_not_round_it(convert):
    far = Z.double() + 1e7
    metric = metrics.EmbeddingMeasures(6)
    metric.update(far[:100])
    metric = convert(metric)
    metric.set_dtype(torch.float32)
    metric.update(far[100:])
    expected = diagnostics.spectral_measures(diagnostics.EmbeddingMoments.of(far))
    assert float(metric.compute()["effective_rank"]) == pytest.approx(
        expected["effective_rank"], rel=1e-9
    )


def test_the_diagnosis_is_that_of_all_rows():
    labels, groups = torch.arange(240) % 3, torch.arange(240) // 2
    metric = metrics.DiagnosisMetric(6)
    for batch in torch.arange(240).split(70):
        metric.update(Z[batch], labels=labels[batch], groups=groups[batch])
    expected = diagnose(Z, labels=labels, groups=groups)
    found = metric.diagnosis()
    assert [each.kind for each in found.findings] == [each.kind for each in expected.findings]
    assert found.metrics == pytest.approx(expected.metrics, rel=1e-9, nan_ok=True)
    metric.reset()
    metric.update(torch.ones(50, 6))
    assert metric.diagnosis().verdict == "complete"
    assert float(metric.compute()["collapsed"]) == 1.0


def test_forward_of_a_diagnosis_does_not_grow():
    metric = metrics.DiagnosisMetric(6)
    rows = [float(metric(batch)["rows"]) for batch in Z.split(60)]
    assert rows == [60.0] * 4
    assert len(metric.surveys) == 1 and float(metric.compute()["rows"]) == 240


def test_other_columns_are_refused():
    for metric in (metrics.Spread(6), metrics.DiagnosisMetric(6)):
        with pytest.raises(ValueError, match="6 columns; got 5"):
            metric.update(Z[:, :5])


WORKER = """
import sys, torch
from torch import distributed
from repcollapse import metrics

torch.manual_seed(0)
distributed.init_process_group("gloo")
rank = distributed.get_rank()
z = torch.load(sys.argv[1])
rows = z[:90] if rank == 0 else z[90:]
spread, diagnosis = metrics.EffectiveRank(6), metrics.DiagnosisMetric(6)
idle = metrics.DiagnosisMetric(6)
for batch in rows.split(50):
    spread.update(batch)
    diagnosis.update(batch)
if rank == 1:
    idle.update(rows)
found = diagnosis.diagnosis()
rows = float(idle.compute()["rows"])
torch.save((float(spread.compute()), found.to_dict(), rows), sys.argv[2] + str(rank))
distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_processes_join_their_rows(tmp_path: Path):
    torch.save(Z, tmp_path / "z.pt")
    (tmp_path / "worker.py").write_text(WORKER)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    done = subprocess.run(
        [*command, str(tmp_path / "worker.py"), str(tmp_path / "z.pt"), str(tmp_path / "rank")],
        env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    expected = diagnose(Z)
    for rank in range(2):
        value, found, idle = torch.load(tmp_path / f"rank{rank}", weights_only=True)
        assert value == pytest.approx(diagnostics.effective_rank(Z), rel=1e-9)
        assert found["verdict"] == expected.verdict and found["rows"] == 240
        assert found["metrics"]["uniformity"] == pytest.approx(
            expected.metrics["uniformity"], rel=1e-6
        )
        assert idle == 150

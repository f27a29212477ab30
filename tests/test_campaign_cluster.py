"""The campaign on a cluster of this machine's own: the same failures as one process finds."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cartpole.campaign.many import faults_of, fly_many
from cartpole.config.load import with_values
from cartpole.config.schema import Config

SEEDS = range(6)


def test_a_cluster_finds_what_one_process_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed", reason="an extra: pip install 'cartpole[cluster]'")
    monkeypatch.delenv("DASK_SCHEDULER_ADDRESS", raising=False)
    base = with_values(Config(), {"sim.motor_sign": -1})  # fails soon, each run in its own way
    alone, spread = (
        sorted(
            (replace(run, wall_s=0.0) for run in fly_many(base, SEEDS, faults_of(None), name, 1)),
            key=lambda run: run.seed,
        )
        for name in ("joblib", "dask")
    )
    assert alone == spread
    assert len({run.why for run in alone} - {""}) > 1

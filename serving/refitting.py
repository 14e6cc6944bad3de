"""Trainers of the walk-forward, and what they made before, so that nothing is fitted twice.

A model is a function of bars, end, horizon, seed and the training code: its folder is named by
the hash of these, and appears only when it is complete.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

from agents.artifacts import Artifact, load, versions
from agents.baseline import NAME as BASELINE
from agents.baseline import Baseline
from agents.environment import library_versions
from agents.heads import TARGETS
from agents.risk import NAME as RISK
from agents.risk import RiskAgent
from agents.training.dataset import Source
from domain.canonical import short_hash
from domain.market import BarFrame
from domain.ports import Agent
from sim.refitting import Trainer
from sim.source import project_source

SEED = 7
TRAINED = (BASELINE, RISK)  # agents that are fitted ahead of their use

Fit = Callable[[BarFrame, Path, Source, int], object]  # bars, folder, source, horizon


def trainers_for(
    root: Path, horizon_bars: int, commit: str, seed: int = SEED
) -> dict[str, Trainer]:
    """Return name → trainer of every agent that is fitted ahead of its use.

    Parameters
    ----------
    root : folder that keeps the models of earlier walks.
    commit : for the model cards.
    """
    made_by = [project_source(training=True), library_versions()]

    def fitted(bars: BarFrame, fit_ms: int, name: str, fit: Fit) -> Path:
        told = _sha(bars)
        folder = root / name / short_hash([told, fit_ms, horizon_bars, seed, made_by], 16)
        if not folder.is_dir():
            part = folder.with_suffix(".part")
            shutil.rmtree(part, ignore_errors=True)
            fit(bars, part, Source(fit_ms, seed, fit_ms, commit, told, folds=0), horizon_bars)
            part.rename(folder)
        return folder

    def baseline(bars: BarFrame, fit_ms: int) -> Agent:
        from agents.training.kinds import model_of

        def every(seen: BarFrame, folder: Path, source: Source, horizon: int) -> None:
            for target in TARGETS:
                model = model_of(BASELINE, target, horizon)
                model.train([seen], source)
                model.save(folder)

        folder = fitted(bars, fit_ms, BASELINE, every)
        return Baseline(*(_only(folder, f"{BASELINE}/{target}") for target in TARGETS))

    def risk(bars: BarFrame, fit_ms: int) -> Agent:
        from agents.training.risk import train

        def alone(seen: BarFrame, folder: Path, source: Source, horizon: int) -> None:
            train([seen], folder, source, horizon)

        return RiskAgent(_only(fitted(bars, fit_ms, RISK, alone), RISK))

    return {BASELINE: baseline, RISK: risk}


def _only(folder: Path, name: str) -> Artifact:
    return load(folder / name / versions(folder, name)[-1])


def _sha(bars: BarFrame) -> str:
    digest = sha256(f"{bars.symbol} {bars.timeframe}".encode())
    for column in (bars.ts, bars.open, bars.high, bars.low, bars.close, bars.volume):
        digest.update(column.tobytes())
    return digest.hexdigest()

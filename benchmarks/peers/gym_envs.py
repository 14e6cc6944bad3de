"""gym-anytrading and gym-trading-env; :mod:`benchmarks.gate_speed` runs it where they are.

``python gym_envs.py anytrading|trading_env BARS.npz OUT.json STEPS``: bars and features in, steps
a CPU-second out, with random actions and of PPO, and what the policy earned on later bars.
"""

import json
import sys
import time
import warnings
from pathlib import Path

import gymnasium as gym
import numpy as np
import pandas as pd
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv

warnings.filterwarnings("ignore")
COPIES, RANDOM, EPISODE = 8, 40_000, 288
# what stable-baselines3 does unless told otherwise, and rollouts as large as ours
BATCHES = {
    "usual": {"n_steps": 2_048, "batch_size": 64},
    "large": {"n_steps": 2_048, "batch_size": 2_048},
}


def frame_of(bars, part):
    opened = pd.to_datetime(bars[f"{part}_ts"], unit="ms")
    columns = {name: bars[f"{part}_{name}"] for name in ("open", "high", "low", "close", "volume")}
    return pd.DataFrame(columns, index=opened)


def anytrading(bars, part, whole=False):
    from gym_anytrading.envs import ForexEnv

    frame, seen = frame_of(bars, part), bars[f"{part}_seen"]

    class Seen(ForexEnv):
        def _process_data(self):
            return self.df["close"].to_numpy(np.float32), seen.astype(np.float32)

    del whole  # it always plays all there is
    return Seen(df=frame, window_size=1, frame_bound=(1, len(frame)))


def trading_env(bars, part, whole=False):
    import gym_trading_env  # noqa: F401 - registers its environment

    frame, seen = frame_of(bars, part), bars[f"{part}_seen"]
    for k in range(seen.shape[1]):
        frame[f"feature_{k}"] = seen[:, k]
    return gym.make(
        "TradingEnv", df=frame, positions=[-1, 0, 1], trading_fees=float(bars["fee"]),
        borrow_interest_rate=0.0, portfolio_initial_value=10_000.0, verbose=0,
        max_episode_duration="max" if whole else EPISODE, disable_env_checker=True,
    )  # fmt: skip


def at_random(env, steps):
    env.reset()
    many = isinstance(env, DummyVecEnv)
    rng = np.random.default_rng(1)
    actions = rng.integers(0, env.action_space.n, (steps, COPIES))
    began = time.process_time()
    if many:
        for row in actions[: steps // COPIES]:
            env.step(row)
        return steps // COPIES * COPIES / (time.process_time() - began)
    for action in actions[:, 0]:
        *_, ended, cut, _ = env.step(action)
        if ended or cut:
            env.reset()
    return steps / (time.process_time() - began)


def learned(make, steps, batch):
    many = DummyVecEnv([make] * COPIES)
    model = PPO("MlpPolicy", many, seed=1, device="cpu", gamma=0.95, gae_lambda=0.9, **batch)
    began = time.process_time()
    model.learn(steps)
    return model, model.num_timesteps / (time.process_time() - began)


def earned(model, env):
    """Log growth of the portfolio over the bars that were not learned from, bp a bar."""
    seen, _ = env.reset()
    over, n, told = False, 0, {}
    while not over:
        action, _ = model.predict(seen, deterministic=True)
        seen, _, ended, cut, told = env.step(int(action))
        over, n = ended or cut, n + 1
    return float(1e4 * np.log(told["portfolio_valuation"] / 10_000.0) / n)


def main():
    kind, bars, out, steps = sys.argv[1], np.load(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    torch.set_num_threads(1)
    make = {"anytrading": anytrading, "trading_env": trading_env}[kind]

    def one():
        return make(bars, "fit")

    told = {"one": at_random(one(), RANDOM), "many": at_random(DummyVecEnv([one] * COPIES), RANDOM)}
    for name, batch in BATCHES.items():
        model, told[f"learn_{name}"] = learned(one, steps, batch)
        if kind == "trading_env":
            told[f"earned_{name}"] = earned(model, make(bars, "test", whole=True))
    Path(out).write_text(json.dumps(told), encoding="utf-8")


main()

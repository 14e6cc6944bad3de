"""The optional gate: reinforcement learning over the one fill engine."""

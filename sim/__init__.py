"""Backtests, evaluation and generated markets."""

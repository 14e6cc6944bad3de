"""Forecasters, their contract and where they live."""

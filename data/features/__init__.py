"""Features: one implementation for training, replay and live."""

from data.features.engine import FeatureEngine, build_features
from data.features.names import (
    EXTRAS,
    MIN_BARS,
    REFERENCE_54,
    SCALES,
    feature_names,
    higher_timeframes,
    schema_hash,
)

SCHEMA_HASH = schema_hash()

__all__ = [
    "EXTRAS",
    "MIN_BARS",
    "REFERENCE_54",
    "SCALES",
    "SCHEMA_HASH",
    "FeatureEngine",
    "build_features",
    "feature_names",
    "higher_timeframes",
    "schema_hash",
]

"""Language models that may answer the council: one port, two providers, off by default.

They read numbers only and answer with one number and one sentence, so that nothing that anybody
wrote reaches a prompt. What comes back is an opinion of its own, stored before the outcome and
scored like any other; it is in no pool until it has earned a seat.
"""

from agents.debaters.http import PRESETS, HttpProvider, Preset
from agents.debaters.language import LanguageDebater
from agents.debaters.provider import Provider, ProviderError, Reply
from agents.debaters.stub import StubProvider

__all__ = [
    "PRESETS", "HttpProvider", "LanguageDebater", "Preset", "Provider", "ProviderError", "Reply",
    "StubProvider",
]  # fmt: skip

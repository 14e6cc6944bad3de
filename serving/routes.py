"""The routes. Reading is free on loopback; whatever changes something needs a token."""

from __future__ import annotations

from fastapi import APIRouter

from serving.params import ERRORS
from serving.routes_account import router as account
from serving.routes_council import router as council
from serving.routes_risk import router as risk
from serving.routes_system import router as system

router = APIRouter(responses=ERRORS)
PARTS = (council, account, risk, system)
for part in PARTS:
    router.include_router(part)

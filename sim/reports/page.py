"""One self-contained HTML file out of a page's parts.

It needs no network and runs no script; its stylesheet is the only thing its policy lets in.
"""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode
from pathlib import Path
from typing import Any

from sim.reports.parts import Page

_UNIT = re.compile(r" (%|USDT|bp)(?!\w)")
_HERE = Path(__file__).parent / "templates"


def shown(page: Page) -> str:
    """Return the page as HTML; equal pages give equal bytes, and every text comes out escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    pages = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, finalize=_kept_together,
    )  # fmt: skip
    css = (_HERE / "page.css").read_text(encoding="utf-8")
    # the policy names the stylesheet by its hash: nothing a report holds can add another
    css_hash = b64encode(hashlib.sha256(css.encode()).digest()).decode()
    return pages.get_template("page.html").render(css=css, css_hash=css_hash, page=page)


def _kept_together(value: Any) -> Any:
    """Tie units to their numbers, so that no line begins with one."""
    return _UNIT.sub("\u00a0\\1", value) if type(value) is str else value

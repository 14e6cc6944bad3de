"""One self-contained HTML file out of a page's parts.

It needs no network and runs no script; its stylesheet is the only thing its policy lets in.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from pathlib import Path

from sim.reports.parts import Page

_HERE = Path(__file__).parent / "templates"


def shown(page: Page) -> str:
    """Return the page as HTML; equal pages give equal bytes, and every text comes out escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    pages = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    css = (_HERE / "page.css").read_text(encoding="utf-8")
    # the policy names the stylesheet by its hash: nothing a report holds can add another
    css_hash = b64encode(hashlib.sha256(css.encode()).digest()).decode()
    return pages.get_template("page.html").render(css=css, css_hash=css_hash, page=page)

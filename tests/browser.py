"""What a real Chromium makes of a report page."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

_PROBE = """<!DOCTYPE html><meta charset="utf-8"><body><script>
const frame = document.createElement("iframe");
frame.style.cssText = "border:0;width:WIDTHpx;height:900px";
frame.onload = () => {
  const page = frame.contentDocument, root = page.documentElement;
  const tall = [...page.querySelectorAll(".chart text")].map(t => t.getBoundingClientRect().height);
  const box = t => t.getBoundingClientRect();
  const charts = [...page.querySelectorAll(".chart")];
  const out = charts.flatMap(c => [...c.querySelectorAll("text")].filter(
    t => box(t).right > box(c).right + 1 || box(t).left < box(c).left - 1
  ).map(t => t.textContent));
  // a line of text is taller than its letters
  const meet = (a, b) => a.left < b.right && b.left < a.right
    && a.top + 3 < b.bottom - 3 && b.top + 3 < a.bottom - 3;
  const overlaps = charts.flatMap(c => {
    const ticks = [...c.querySelectorAll("text.tick")];
    return ticks.flatMap((t, i) => ticks.slice(i + 1).filter(u => meet(box(t), box(u))).map(
      u => t.textContent + " and " + u.textContent));
  });
  const cards = [...page.querySelectorAll(".card")].map(c => c.getBoundingClientRect());
  document.title = JSON.stringify({
    wide: root.scrollWidth, charts: charts.length, smallest: Math.min(...tall), out, overlaps,
    sections: [...page.querySelectorAll("section[id]")].map(s => s.id),
    columns: new Set(cards.map(c => Math.round(c.left))).size,
    padding: page.defaultView.getComputedStyle(page.body).paddingTop,
    headings: [...page.querySelectorAll("h1,h2,h3")].map(h => +h.tagName[1]),
    unnamed: page.querySelectorAll(":not(svg) > svg:not([aria-label]):not([aria-hidden])").length,
  });
};
frame.srcdoc = PAGE;
document.body.append(frame);
</script>"""


def measured(page: str, width: int, folder: Path) -> dict[str, Any]:
    """What Chromium makes of the page in a window of this width."""
    assert CHROMIUM is not None
    body = json.dumps(page).replace("</", "<\\/")
    probe = folder / "probe.html"
    probe.write_text(_PROBE.replace("WIDTH", str(width)).replace("PAGE", body), encoding="utf-8")
    done = subprocess.run(
        [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
         f"--user-data-dir={folder / 'profile'}", "--window-size=1400,1000",
         "--enable-logging=stderr",
         "--virtual-time-budget=5000", "--dump-dom", probe.as_uri()],
        capture_output=True, text=True, timeout=90, check=True,
    )  # fmt: skip
    title = re.search(r"<title>(.*?)</title>", done.stdout, flags=re.DOTALL)
    assert title is not None, done.stderr[-2000:]
    found: dict[str, Any] = json.loads(html.unescape(title[1]))
    return {**found, "console": [line for line in done.stderr.splitlines() if ":CONSOLE" in line]}

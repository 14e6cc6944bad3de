"""HTML for Telegram: nothing foreign is markup, and no cut breaks a tag or an entity."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import UsageError
from notifications.markup import (
    Button,
    bold,
    code,
    escape,
    italic,
    split,
    table,
    units,
    without_tags,
)
from tests.bot_api import Refused, _html

HOSTILE = [
    "<b>bold</b>", "</b></pre>", "&lt;", "&", "<script>alert(1)</script>", "a < b > c", "😀" * 50,
    "\x00\x07\x1b[31m", "\ud800", "*_[]()~`>#+-=|{}.!", "<a href='tg://user?id=1'>x</a>",
    "\u202egnp.exe", "&#60;b&#62;",
]  # fmt: skip
texts = st.one_of(st.text(), st.sampled_from(HOSTILE))
wraps = st.sampled_from([escape, bold, italic, code, lambda text: f"<pre>{escape(text)}</pre>"])
htmls = st.lists(
    st.tuples(wraps, st.one_of(texts, st.text(min_size=200, max_size=900))), min_size=1, max_size=12
).map(lambda parts: "\n".join(wrap(text) for wrap, text in parts))


@given(texts)
def test_escape_when_given_any_text_then_telegram_shows_it_as_it_is(text: str) -> None:
    shown = _html(escape(text))

    said = text.replace("\r\n", "\n").replace("\r", "\n")
    assert len(shown) == len(said)
    assert all(ours in (theirs, "\ufffd") for ours, theirs in zip(shown, said, strict=True))
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]", shown)


@pytest.mark.parametrize("text", HOSTILE)
def test_escape_when_the_text_is_hostile_then_no_tag_or_entity_comes_of_it(text: str) -> None:
    shown = _html(bold(text))  # Refused, if anything of it were markup

    assert len(shown) == len(text)
    for ours, theirs in zip(shown, text, strict=True):
        assert ours in (theirs, "\ufffd")
    shown.encode("utf-8")


@pytest.mark.long
@given(htmls, st.integers(60, 400))
def test_split_when_given_any_html_then_each_part_fits_and_nothing_is_lost(
    html: str, limit: int
) -> None:
    parts = split(html, limit)

    for part in parts:
        assert units(part) <= limit
        assert _html(part).strip()  # parses, and there is something to see
    seen = "".join(re.sub(r"\s", "", _html(part)) for part in parts)
    assert seen == re.sub(r"\s", "", without_tags(html))


def test_split_when_a_short_line_is_cut_off_then_what_is_left_fits_as_well() -> None:
    parts = split(f"<pre>a\n{'x' * 76}\U0001f600{'y' * 20}</pre>", 93)

    assert all(units(part) <= 93 for part in parts)
    assert "".join(without_tags(part) for part in parts) == f"a{'x' * 76}\U0001f600{'y' * 20}"


def test_split_when_lines_fit_then_it_cuts_between_them() -> None:
    html = "\n".join(f"<b>line {n}</b> " + "x" * 30 for n in range(10))

    parts = split(html, 120)

    assert len(parts) > 1
    assert all(part.startswith("<b>line ") for part in parts)
    assert all(part.endswith("x" * 30) for part in parts)


def test_split_when_a_table_is_cut_then_it_goes_on_as_a_table() -> None:
    html = table([(f"agent {n}", n) for n in range(100)])

    parts = split(html, 300)

    assert all(part.startswith("<pre>") and part.endswith("</pre>") for part in parts)


def test_split_when_there_is_nothing_to_see_then_there_is_no_part() -> None:
    assert split("") == []
    assert split("<b>\n</b>") == []


def test_table_when_cells_are_hostile_then_columns_still_line_up() -> None:
    shown = _html(table([("<b>", "1"), ("a&b", "22")], ("name", "n")))

    assert shown.splitlines() == ["name   n", "<b>    1", "a&b   22"]


@pytest.mark.parametrize("data", ["", "x" * 65, "ü" * 33])
def test_button_when_its_data_does_not_fit_then_it_is_refused(data: str) -> None:
    with pytest.raises(UsageError, match="64 bytes"):
        Button("Why", data)


def test_the_local_server_when_markup_is_broken_then_it_refuses_as_telegram_does() -> None:
    for broken in ("<b>", "</b>", "<b><i></b></i>", "a < b", "a & b", "<script>x</script>"):
        with pytest.raises(Refused, match="can't parse entities"):
            _html(broken)

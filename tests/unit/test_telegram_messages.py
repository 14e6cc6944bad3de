"""What is told of events: every kind, whatever stands in it; and the document that shows them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.decision import Action
from domain.operations import Reflection, RiskEvent
from domain.times import iso
from domain.trading import Event, ModeChange, RiskMode
from notifications.figures import fixed, percent, price, when
from notifications.markup import CAPTION_LIMIT, LIMIT, units
from notifications.matrix import TOPICS, Matrix, topic_of
from notifications.messages import note_of, unreadable
from notifications.relay import AGAIN, bodies_of
from serving.bot import examples
from serving.bot.commands import COMMANDS
from serving.bot.reference import PICTURES, telegram_markdown, usages
from serving.telling import event_of
from tests.bot_api import _html

DOCS = Path(__file__).resolve().parents[2] / "docs"
EVENTS = examples.events()


def test_document_when_made_again_then_the_committed_one_is_current() -> None:
    assert (DOCS / "TELEGRAM.md").read_text(encoding="utf-8") == telegram_markdown(), (
        "run: python -m serving.bot.reference > docs/TELEGRAM.md"
    )


@pytest.mark.parametrize("name", PICTURES)
def test_document_when_it_shows_a_picture_then_the_picture_is_there(name: str) -> None:
    assert (DOCS / "telegram" / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_examples_when_listed_then_every_topic_and_every_command_has_one() -> None:
    told = {topic_of(event) for event in EVENTS.values()}
    assert told == set(TOPICS)
    asked = {title.split()[0].removeprefix("/") for title in examples.answers(usages())}
    changing = {name for name, one in COMMANDS.items() if one.act is not None}
    assert asked | changing == set(COMMANDS)


@pytest.mark.parametrize("title", EVENTS)
def test_message_when_made_then_telegram_takes_it_and_it_ends_with_its_own_time(title: str) -> None:
    event = EVENTS[title]
    bodies = bodies_of(note_of(event), silent=False)
    for body in bodies:
        shown = _html(body["html"])
        limit = LIMIT if body["picture"] is None else CAPTION_LIMIT
        assert units(AGAIN + body["html"]) <= limit
    assert shown.rstrip().endswith(when(iso(event.at)))


@pytest.mark.parametrize("title", examples.answers(usages()))
def test_answer_when_made_then_telegram_takes_it(title: str) -> None:
    assert _html(examples.answers(usages())[title].html).strip()


hostile = st.one_of(st.text(max_size=3_000), st.sampled_from(["<b>", "</i>&amp;", "a<b>c" * 900]))


@pytest.mark.long
@settings(max_examples=60, deadline=None)
@given(hostile, hostile)
def test_message_when_its_words_are_hostile_then_nothing_of_them_is_markup(
    one: str, other: str
) -> None:
    records = [
        ModeChange("paper", 0, RiskMode.KILLED, one, other),
        RiskEvent("paper", 0, one, other, "error", one, {"text": other}),
        Reflection("paper", one, other, 0, one, other, (one, other)),
        replace(
            examples.decision(), reason=one, explanations={one: other}, absent={one: other},
            weights={one: 0.5}, contributions={one: 0.1, "_fusion": 0.0}, symbol=other,
        ),
    ]  # fmt: skip
    told = [found[1] for record in records if (found := event_of(record)) is not None]
    told.append(Event("system", 0, {"what": one, "why": other, "figures": {one: other}}))
    told.append(Event("some_new_kind", 0, {"why": one, "hint": other}, "error"))
    for event in told:
        for body in bodies_of(note_of(event), silent=False):
            _html(body["html"])  # Refused, if anything of them were markup
            assert units(AGAIN + body["html"]) <= LIMIT


def test_message_when_it_is_long_then_its_parts_are_separate_and_the_buttons_come_last() -> None:
    note = note_of(Event("system", 0, {"what": "x", "why": "w", "figures": {
        f"name {n}": "v" * 70 for n in range(40)
    }}))  # fmt: skip
    long = replace(note, html="\n".join([note.html] * 3), buttons=examples_buttons())
    bodies = bodies_of(long, silent=True)
    assert len(bodies) > 1
    assert [bool(body["buttons"]) for body in bodies] == [False] * (len(bodies) - 1) + [True]
    assert all(body["silent"] for body in bodies)


def examples_buttons() -> object:
    return note_of(EVENTS["Signal"]).buttons


def test_message_when_text_and_picture_do_not_fit_together_then_the_picture_comes_first() -> None:
    daily = note_of(EVENTS["Daily summary"])
    (together,) = bodies_of(daily, silent=False)
    assert together["picture"] is not None
    assert together["html"]
    apart = bodies_of(replace(daily, html=daily.html * 4), silent=False)
    assert [body["picture"] is not None for body in apart] == [True, False]
    assert not apart[0]["html"]


def test_message_when_another_version_wrote_the_event_then_it_says_so() -> None:
    strange = Event("fill", 0, {"no": "fields"})
    with pytest.raises(KeyError):
        note_of(strange)
    assert "Another version" in unreadable(strange).html


@pytest.mark.parametrize(
    ("event", "topic"),
    [
        (EVENTS["Signal"], "signal"),
        (EVENTS["No trade"], "no_trade"),
        (EVENTS["Job fails"], "error"),
        (EVENTS["Job ends"], "job"),
        (EVENTS["A backup failed"], "error"),
        (Event("session", 0, {}), None),
        (Event("some_new_kind", 0, {}), "system"),
        (Event("some_new_kind", 0, {}, "error"), "error"),
    ],
)
def test_topic_when_asked_then_it_is_the_one_people_set(event: Event, topic: str | None) -> None:
    assert topic_of(event) == topic
    loud = Matrix({**dict.fromkeys(TOPICS, "off"), **({topic: "silent"} if topic else {})})  # type: ignore[arg-type,dict-item]
    assert loud.loudness(event) == ("silent" if topic else "off")


def test_signal_when_it_took_no_side_then_the_rationale_is_told_all_the_same() -> None:
    found = event_of(examples.decision(Action.NO_TRADE))
    assert found is not None
    html = note_of(found[1]).html
    assert "does not exceed the break-even" in html
    assert "technical" in html


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        (fixed("1234.5", 2), "1,234.50"), (fixed(None), "–"), (fixed(-1, 1, sign=True), "-1.0"),
        (percent(0.0314, 1), "3.1 %"), (price("104731.4"), "104,731.40"), (price(0.5123), "0.5123"),
        (price("0.07000"), "0.07"), (when("2025-06-01T12:05:00Z"), "2025-06-01 12:05 UTC"),
        (when("2025-06-01T12:05:07.120Z"), "2025-06-01 12:05:07 UTC"), (when(None), "–"),
    ],
)  # fmt: skip
def test_figures_when_shown_then_they_read_so(said: str, meant: str) -> None:
    assert said == meant

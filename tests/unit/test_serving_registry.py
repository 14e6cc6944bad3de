"""Which model is in use, and when a new one takes its place by itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from agents.artifacts import Card, promoted, save
from domain.errors import ModelError, NotFound
from serving.registry import Outcome, after_training, listing, names, require_name

DAY = 86_400_000


def card(day: int, pinball: float | None, data: str = "aa", end: int = 9 * DAY) -> Card:
    metrics = {} if pinball is None else {"walk_forward": {"pinball_bps": pinball, "folds": []}}
    return Card("risk", "risk", day * DAY, "abc1234", data, "BTC/USDT", "5m", 5, 0, end, 7,
                metrics=metrics)  # fmt: skip


def trained(
    root: Path,
    *told: object,
    shipped: Path,
    better: bool = True,
    sound: Callable[[str, str], object] = lambda *_: None,
    **also: object,
) -> Outcome:
    made = save(root, "risk", card(*told, **also), {"params.json": b"{}"})  # type: ignore[arg-type]
    return after_training(root, "risk", made, promote_better=better, sound=sound, shipped=shipped)


@pytest.fixture
def roots(tmp_path: Path) -> tuple[Path, Path]:
    return tmp_path / "models", tmp_path / "weights"


def test_after_training_when_nothing_is_in_use_then_the_model_is_taken(
    roots: tuple[Path, Path],
) -> None:
    root, shipped = roots
    assert trained(root, 1, 6.4, shipped=shipped).promoted
    assert promoted(root, "risk") == "19700102T000000Z-abc1234"


@pytest.mark.parametrize(
    ("pinball", "taken"), [(6.3, True), (6.4, False), (6.5, False), (None, False)]
)
def test_after_training_when_one_is_in_use_then_only_a_better_one_is_taken(
    roots: tuple[Path, Path], pinball: float | None, taken: bool
) -> None:
    root, shipped = roots
    trained(root, 1, 6.4, shipped=shipped)
    told = trained(root, 2, pinball, shipped=shipped)
    assert told.promoted is taken
    day = 3 if taken else 2
    assert promoted(root, "risk") == f"1970010{day}T000000Z-abc1234"


@pytest.mark.parametrize("also", [{"data": "bb"}, {"end": 8 * DAY}])
def test_after_training_when_the_other_saw_other_rows_then_people_decide(
    roots: tuple[Path, Path], also: dict[str, object]
) -> None:
    root, shipped = roots
    trained(root, 1, 6.4, shipped=shipped)
    told = trained(root, 2, 1.0, shipped=shipped, **also)
    assert not told.promoted
    assert "cannot be compared" in told.why


def test_after_training_when_auto_promote_is_off_then_nothing_is_promoted(
    roots: tuple[Path, Path],
) -> None:
    root, shipped = roots
    told = trained(root, 1, 6.4, shipped=shipped, better=False)
    assert (told.promoted, promoted(root, "risk")) == (False, None)
    assert told.scores == {"pinball_bps": 6.4}


def test_after_training_when_a_better_model_is_not_sound_then_it_is_refused_with_the_reason(
    roots: tuple[Path, Path],
) -> None:
    root, shipped = roots

    def refuses(name: str, version: str) -> None:
        raise ModelError(f"{name} {version}", "its forecasts must differ")

    trained(root, 1, 6.4, shipped=shipped)
    told = trained(root, 2, 6.3, shipped=shipped, sound=refuses)
    assert not told.promoted
    assert told.why == "Not promoted: risk 19700103T000000Z-abc1234: its forecasts must differ."
    assert promoted(root, "risk") == "19700102T000000Z-abc1234"


def test_listing_when_the_promoted_one_is_damaged_then_what_stands_in_is_in_use_and_says_why(
    roots: tuple[Path, Path],
) -> None:
    root, shipped = roots
    trained(shipped, 1, 6.4, shipped=shipped)
    trained(root, 2, 6.3, shipped=shipped)
    (root / "risk" / "19700103T000000Z-abc1234" / "params.json").write_bytes(b"{")
    rows = {row.place: row for row in listing(root, shipped)}
    assert (rows["models_dir"].promoted, rows["models_dir"].in_use) == (True, False)
    assert rows["shipped"].in_use
    assert "sha256" in rows["models_dir"].problem
    assert rows["shipped"].note.endswith("19700102T000000Z-abc1234 (shipped) is instead")


def test_listing_when_the_pointer_is_half_written_then_what_ships_is_in_use(
    roots: tuple[Path, Path],
) -> None:
    root, shipped = roots
    trained(shipped, 1, 6.4, shipped=shipped)
    trained(root, 2, 6.3, shipped=shipped)
    (root / "risk" / "promoted.json").write_text('{"version": "1970')
    rows = {row.place: row for row in listing(root, shipped)}
    assert rows["shipped"].in_use
    assert "readable JSON" in rows["shipped"].note


def test_listing_when_one_ships_and_one_is_promoted_here_then_only_the_latter_is_in_use(
    roots: tuple[Path, Path],
) -> None:
    root, shipped = roots
    trained(shipped, 1, 6.4, shipped=shipped)
    [only] = listing(root, shipped)
    assert (only.place, only.in_use) == ("shipped", True)
    trained(root, 2, 6.3, shipped=shipped)
    rows = {row.place: row for row in listing(root, shipped)}
    assert (rows["shipped"].promoted, rows["shipped"].in_use) == (True, False)
    assert rows["models_dir"].in_use
    assert rows["models_dir"].as_json()["seen_until"] == "1970-01-10T00:00:00Z"


def test_require_name_when_nobody_has_it_then_it_lists_who_there_is(
    roots: tuple[Path, Path],
) -> None:
    root, shipped = roots
    trained(root, 1, 6.4, shipped=shipped)
    assert names(root) == ["risk"]
    require_name(root, "risk", shipped)
    with pytest.raises(NotFound) as caught:
        require_name(root, "rsik", shipped)
    assert "risk" in caught.value.hint

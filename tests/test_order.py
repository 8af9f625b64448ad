"""How the tests themselves are divided among processes."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from .support.order import slow_first


class Item(NamedTuple):
    number: int
    slow: bool

    def get_closest_marker(self, name: str) -> bool:
        assert name == "slow"
        return self.slow


@pytest.mark.parametrize(
    ("processes", "expected"),
    [
        ("1", [3, 7, 8, 9, 0, 1, 2, 4, 5, 6]),
        # In runs of three, three and four.
        ("3", [3, 9, 0, 7, 1, 2, 8, 4, 5, 6]),
        # A run may have slow ones only.
        ("5", [3, 0, 7, 1, 8, 2, 9, 4, 5, 6]),
    ],
)
def test_each_process_begins_with_slow_tests(
    monkeypatch: pytest.MonkeyPatch, processes: str, expected: list[int]
) -> None:
    monkeypatch.setenv("PYTEST_XDIST_WORKER_COUNT", processes)
    items: list[Any] = [Item(number, number in (3, 7, 8, 9)) for number in range(10)]
    slow_first(items)
    assert [item.number for item in items] == expected


def test_nothing_is_lost_where_slow_tests_are_more_than_a_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTEST_XDIST_WORKER_COUNT", "4")
    for count in range(12):
        items: list[Any] = [Item(number, number < count) for number in range(11)]
        slow_first(items)
        assert sorted(item.number for item in items) == [*range(11)]

"""The page of attacks names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
ROWS = [line for line in PAGE.splitlines() if line.startswith("| ") and "| ---" not in line]
ATTACKS = [row for row in ROWS if not row.endswith("| test |")]


@pytest.mark.parametrize("row", ATTACKS)
def test_attack_has_a_test_that_exists(row: str) -> None:
    named = re.search(r"`([\w/]+\.py)::(test_\w+)` \|$", row)
    assert named is not None, row
    text = (ROOT / named[1]).read_text(encoding="utf-8")
    assert f"def {named[2]}(" in text


def test_page_has_a_row_for_every_kind_of_attack() -> None:
    assert len(ATTACKS) >= 40
    assert (ROOT / "SECURITY.md").is_file()

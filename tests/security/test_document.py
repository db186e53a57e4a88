"""SECURITY.md names tests that exist, for every claim that it makes."""

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
TEXT = (TESTS.parent / "SECURITY.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`((?:\w+/)?test_\w+\.py(?:::\w+)?)`", TEXT)))


@pytest.mark.parametrize("name", NAMED)
def test_named_tests_exist(name: str) -> None:
    file, _, function = name.partition("::")
    text = (TESTS / file).read_text(encoding="utf-8")
    assert not function or re.search(rf"^ *def {function}\(", text, re.M)


def test_every_claim_has_a_proof() -> None:
    _, _, defended = TEXT.partition("## What is defended")
    rows = [line for line in defended.partition("## What is not")[0].splitlines() if "|" in line]
    assert len(rows) > 10
    for row in rows[2:]:
        assert any(f"`{name}`" in row for name in NAMED), row

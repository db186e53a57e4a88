"""SECURITY.md names tests that exist, for every claim that it makes."""

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
TEXT = (TESTS.parent / "SECURITY.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`((?:\w+/)?test_\w+\.py(?:::\w+)*)`", TEXT)))


@pytest.mark.parametrize("name", NAMED)
def test_named_tests_exist(name: str) -> None:
    file, *parts = name.split("::")
    text = (TESTS / file).read_text(encoding="utf-8")
    assert all(re.search(rf"^ *(def|class) {part}\b", text, re.M) for part in parts)


def test_every_claim_has_a_proof() -> None:
    _, _, defended = TEXT.partition("## What is defended")
    rows = [line for line in defended.partition("## What is not")[0].splitlines() if "|" in line]
    assert len(rows) > 10
    for row in rows[2:]:
        assert any(f"`{name}`" in row for name in NAMED), row


def test_named_targets_exist() -> None:
    makefile = (TESTS.parent / "Makefile").read_text(encoding="utf-8")
    named = set(re.findall(r"`make ([a-z-]+)", TEXT))
    assert "audit" in named
    assert named <= set(re.findall(r"^([a-z-]+):", makefile, re.M))

"""Letters: any text is spelled with the letters of the font and fits its block."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamagen_async.sandbox.pictures.lettering import caption_block, legible

LONG = "A very long story about a cat that never ends and goes on and on. " * 20


@pytest.mark.parametrize(
    ("text", "spelled"),
    [
        ("Café über Łódź", "Cafe uber Lodz"),
        ("Straße \u2013 “ja” …", 'Strasse - "ja" ...'),
        ("Привет, Мир!", "Privet, Mir!"),
        ("ひらがな 한국", "hiragana hangug"),
        ("¿Qué?", "Que?"),
        ("10 €", "10 EUR"),
        ("a ★ b and some more", "a ... b and some more"),
        ("日本猫", "..."),
        ("\u200b", "..."),
        ("", "..."),
    ],
)
def test_other_scripts_are_spelled_with_the_letters_there_are(text: str, spelled: str) -> None:
    assert legible(text) == spelled


@given(text=st.text(max_size=400))
def test_what_is_legible_is_ascii_and_not_empty(text: str) -> None:
    made = legible(text)
    assert made
    assert made.isascii()


@settings(deadline=None)
@given(
    text=st.text(max_size=300),
    width=st.floats(60, 2000),
    height=st.floats(30, 500),
)
def test_a_caption_always_fits_its_block(text: str, width: float, height: float) -> None:
    block = caption_block(text, width=width, height=height, largest=60, smallest=18)
    assert block.width <= width
    assert block.height <= max(height, 18 * 1.22)
    assert block.lines


def test_a_long_word_is_hyphenated_only_where_its_line_ends() -> None:
    word = "Donaudampfschifffahrtsgesellschaft"
    narrow = caption_block(word, width=400, height=400, largest=40, smallest=18)
    assert len(narrow.lines) > 1
    assert narrow.lines[0].endswith("-")
    wide = caption_block(word, width=4000, height=400, largest=40, smallest=18)
    assert wide.lines == (word.upper(),)


def test_a_text_that_does_not_fit_is_cut_with_dots() -> None:
    block = caption_block(LONG, width=300, height=60, largest=40, smallest=18)
    assert block.lines[-1].endswith("...")

"""Captions cut from a prompt."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamagen_async.sandbox.captions import captions


def split(story: str, count: int) -> tuple[str, ...]:
    return captions(story, count, Random(0))


def test_a_sentence_is_cut_where_it_reads_well() -> None:
    assert split("A superhero cat saves a city from giant mice", 4) == (
        "A superhero cat",
        "Saves a city",
        "From giant mice",
        "The end.",
    )


def test_each_sentence_gets_a_panel() -> None:
    story = "A fox finds a map. She sails to sea! What is it?"
    assert split(story, 3) == ("A fox finds a map.", "She sails to sea!", "What is it?")


def test_numbers_with_a_point_are_not_the_end_of_a_sentence() -> None:
    assert split("Pi is 3.14 today", 1) == ("Pi is 3.14 today",)


def test_more_sentences_than_panels_are_joined_in_order() -> None:
    assert split("One. Two. Three. Four.", 2) == ("One. Two.", "Three. Four.")


def test_sentences_of_other_scripts_are_cut_too() -> None:
    assert split("猫がいる。犬が来る。", 2) == ("猫がいる。", "犬が来る。")


def test_a_story_of_nothing_begins_as_stories_do() -> None:
    assert split("  ", 1) == ("Once upon a time…",)


def test_a_caption_never_grows_too_long() -> None:
    assert all(len(caption) <= 140 for caption in split("word " * 400, 3))
    assert split("x" * 500, 1)[0].endswith("…")


@pytest.mark.parametrize("count", [1, 2, 7, 20, 400])
@given(story=st.text(max_size=300))
def test_there_is_one_caption_for_every_panel(count: int, story: str) -> None:
    made = split(story, count)
    assert len(made) == count
    assert all(made)


@given(story=st.text(alphabet="abc ,.", min_size=1, max_size=200).filter(str.strip))
def test_the_words_of_the_story_keep_their_order(story: str) -> None:
    joined = " ".join(captions(story, 1, Random(0)))
    assert joined.removesuffix("…").lower() in " ".join(story.split()).lower()

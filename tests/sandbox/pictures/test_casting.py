"""Figures, places and capes follow from the words of a story."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamagen_async.sandbox.pictures.casting import FIGURES, cast_scene
from llamagen_async.sandbox.pictures.places import PLACES


@pytest.mark.parametrize(
    ("story", "figures", "place"),
    [
        ("A superhero cat saves a city from giant mice", ("cat", "mouse"), "city"),
        ("Two dogs in the snow", ("dog",), "mountains"),
        ("The bunny drives a car to the desert", ("rabbit", "car"), "desert"),
        ("A whale sings", ("fish",), "sea"),
        ("A whale and a girl", ("fish", "girl"), "beach"),
        ("The astronaut sleeps", ("astronaut",), "space"),
        ("A cat, a dog, a fox, a bear", ("cat", "dog", "fox"), "forest"),
        ("🐱 on the 🌊", ("cat",), "beach"),
    ],
)
def test_the_words_decide_who_is_where(story: str, figures: tuple[str, ...], place: str) -> None:
    scene = cast_scene(story, story, "0")
    assert (scene.figures, scene.place) == (figures, place)


def test_the_hero_wears_a_cape_and_the_others_do_not() -> None:
    story = "A superhero cat saves a city from giant mice"
    assert cast_scene(story, "A cat", "0").has_hero
    assert not cast_scene(story, "The mice", "0").has_hero
    assert not cast_scene("A cat and mice", "A cat", "0").has_hero


@given(story=st.text(max_size=100), caption=st.text(max_size=50), seed=st.text(max_size=5))
def test_every_story_has_somebody_somewhere(story: str, caption: str, seed: str) -> None:
    scene = cast_scene(story, caption, seed)
    assert 1 <= len(scene.figures) <= 3
    assert set(scene.figures) <= set(FIGURES)
    assert scene.place in PLACES
    assert cast_scene(story, caption, seed) == scene

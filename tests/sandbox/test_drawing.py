from __future__ import annotations

import io

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from llamagen_async.requests import SIZES
from llamagen_async.sandbox.pictures.casting import FIGURES, cast_scene
from llamagen_async.sandbox.pictures.drawing import PanelSpec, draw_animation, draw_page, draw_panel
from llamagen_async.sandbox.pictures.lettering import caption_block, legible
from llamagen_async.sandbox.pictures.pen import mixed
from llamagen_async.sandbox.pictures.places import PLACES

SMALL = (160, 120)
LONG = "A very long story about a cat that never ends and goes on and on. " * 20


def opened(content: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(content))
    image.load()
    return image


# Panels.


@pytest.mark.parametrize("name", SIZES)
def test_a_panel_has_exactly_the_size_asked_for(name: str) -> None:
    width, height = map(int, name.split("x"))
    content = draw_panel("A cat finds a hat", size=(width, height))
    image = opened(content)
    assert (image.format, image.size) == ("PNG", (width, height))
    assert len(content) < 150_000


def test_the_same_seed_draws_the_same_picture_and_another_seed_another() -> None:
    one, same, other = (draw_panel("A cat", size=SMALL, seed=seed) for seed in ("a", "a", "b"))
    assert one == same
    assert one != other


def test_the_story_decides_who_is_in_a_panel_that_names_nobody() -> None:
    cat, dog = (
        draw_panel("Onwards", size=SMALL, story=story) for story in ("A cat hikes", "A dog hikes")
    )
    assert cat != dog


def test_a_watermark_and_a_number_show() -> None:
    plain = draw_panel("A cat", size=SMALL)
    assert draw_panel("A cat", size=SMALL, watermark=True) != plain
    assert draw_panel("A cat", size=SMALL, number=3) != plain


@pytest.mark.parametrize("style", ["manga", "Black and white", "film-noir"])
def test_a_style_without_colours_is_drawn_grey(style: str) -> None:
    image = opened(draw_panel("A cat", size=SMALL, style=style)).convert("RGB")
    pixels = image.tobytes()
    assert pixels[0::3] == pixels[1::3] == pixels[2::3]


def test_a_style_with_colours_is_drawn_in_colour() -> None:
    assert draw_panel("A cat", size=SMALL, style="pink") == draw_panel("A cat", size=SMALL)


@pytest.mark.parametrize(
    "caption",
    ["", "!", LONG, "W" * 300, '"Hello there," said the cat.', "日本の猫", "🐱🚀", "\x00\n"],
)
@pytest.mark.parametrize("size", [SMALL, (64, 200), (300, 40), (16, 16)])
def test_any_caption_can_be_drawn_at_any_size(caption: str, size: tuple[int, int]) -> None:
    assert opened(draw_panel(caption, size=size, number=1)).size == size


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(caption=st.text(max_size=80), seed=st.integers(0, 1000))
def test_no_caption_and_no_seed_breaks_the_drawing(caption: str, seed: int) -> None:
    assert opened(draw_panel(caption, size=(96, 64), seed=seed)).size == (96, 64)


@pytest.mark.parametrize("figure", sorted(FIGURES))
def test_every_figure_can_be_drawn_in_every_mood(figure: str) -> None:
    captions = (f"{figure}", f"{figure}!", f"superhero {figure} fights", f"{figure} and a cat")
    pictures = {
        draw_panel(caption, size=SMALL, seed=seed) for seed, caption in enumerate(captions * 3)
    }
    assert len(pictures) == len(captions) * 3


@pytest.mark.parametrize(
    "word",
    ["beach", "castle", "city", "desert", "forest", "hill", "house", "moon", "sea", "nowhere"],
)
def test_every_place_can_be_drawn_in_every_light(word: str) -> None:
    pictures = {draw_panel(f"A cat and a {word}", size=SMALL, seed=seed) for seed in range(12)}
    assert len(pictures) == 12


# Pages and animations.


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 6, 20])
def test_a_page_has_room_for_all_its_panels(count: int) -> None:
    panels = [PanelSpec("A cat", seed=str(n), number=n + 1) for n in range(count)]
    image = opened(draw_page(panels, size=(512, 768)))
    assert image.width == 1200
    assert image.height > 300


def test_the_page_of_a_demo_comic_has_a_watermark() -> None:
    panels = [PanelSpec("A cat")]
    assert draw_page(panels, watermark=True) != draw_page(panels)


def test_an_animation_is_a_gif_that_moves() -> None:
    content = draw_animation("A cat hops", size=SMALL, watermark=True)
    image = opened(content)
    assert (image.format, image.size) == ("GIF", SMALL)
    assert getattr(image, "n_frames", 1) > 2
    assert content != draw_animation("A cat hops", size=SMALL)


# Letters.


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


def test_colours_are_mixed_by_share() -> None:
    assert mixed("#000000", "#ffffff", 0.0) == "#000000"
    assert mixed("#000000", "#ff8000", 1.0) == "#ff8000"


# Who is in a picture.


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

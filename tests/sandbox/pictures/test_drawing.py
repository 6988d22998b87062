"""Panels, pages and animations are drawn from any words at any size."""

from __future__ import annotations

import io

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from llamagen_async.sandbox.pictures.casting import FIGURES
from llamagen_async.sandbox.pictures.drawing import PanelSpec, draw_animation, draw_page, draw_panel
from llamagen_async.sandbox.schemas import SIZES

SMALL = (160, 120)


LONG = "A very long story about a cat that never ends and goes on and on. " * 20


def opened(content: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(content))
    image.load()
    return image


@pytest.mark.parametrize("name", sorted(SIZES))
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

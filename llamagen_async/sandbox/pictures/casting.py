"""From the words of a story to the figures, place and mood of a panel. Nothing is drawn here.

Plain lookups, with a seeded choice where the words say nothing, so that the same story always has
the same heroes.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from random import Random
from typing import Final

import attrs

from llamagen_async.sandbox.pictures import creatures
from llamagen_async.sandbox.pictures.animals import animal
from llamagen_async.sandbox.pictures.figures import Figure, Mood
from llamagen_async.sandbox.pictures.people import person

__all__ = ["FIGURES", "Scene", "cast_scene"]

_FIGURES_AT_MOST: Final = 3
"""The most figures in one panel: more of them would hide each other."""
_FIGURES: Final[tuple[tuple[str, Figure], ...]] = (
    ("cat kitten kitty tomcat feline",
     animal(furs=("#f4a259", "#8d99ae", "#4a4e69", "#f2e9e4"), ears="cat", tail="long",
            extras=frozenset({"whiskers", "stripes"}))),
    ("tiger lion lioness leopard",
     animal(furs=("#f79d3c",), ears="bear", tail="long",
            extras=frozenset({"whiskers", "stripes"}))),
    ("dog puppy hound wolf",
     animal(furs=("#c98a5b", "#e9c46a", "#a5a58d"), ears="dog", tail="short")),
    ("mouse mice rat hamster",
     animal(furs=("#a9adc1", "#c9ada7"), ears="mouse", tail="thin",
            extras=frozenset({"whiskers"}))),
    ("fox squirrel",
     animal(furs=("#e76f51", "#d9622b"), ears="fox", tail="bushy", belly="#fff1e6")),
    ("bear panda koala",
     animal(furs=("#9c6644", "#7f5539"), ears="bear", tail="none")),
    ("rabbit bunny hare",
     animal(furs=("#f2e9e4", "#cdb4db", "#d6ccc2"), ears="rabbit", tail="ball",
            extras=frozenset({"whiskers"}))),
    ("llama alpaca camel sheep lamb",
     animal(furs=("#f5ead9", "#e6cba8", "#fdf6ec"), ears="horse", tail="ball",
            extras=frozenset({"fleece", "snout"}))),
    ("unicorn",
     animal(furs=("#f8edff", "#e8f6ff"), ears="horse", tail="bushy",
            extras=frozenset({"horn", "mane", "snout"}))),
    ("horse pony donkey zebra",
     animal(furs=("#b08968", "#d8b4a0", "#8d99ae"), ears="horse", tail="long",
            extras=frozenset({"mane", "snout"}))),
    ("dragon",
     animal(furs=("#58b368", "#3fa7a0", "#d1495b", "#8e6cef"), ears="none", tail="dragon",
            belly="#ffe8a3", extras=frozenset({"wings", "horns", "spikes", "snout"}))),
    ("dinosaur dino crocodile lizard frog turtle",
     animal(furs=("#6aab4f", "#3fa796"), ears="none", tail="dragon", belly="#e6f5c9",
            extras=frozenset({"spikes", "snout"}))),
    ("robot android machine cyborg ai computer", creatures.robot),
    ("wizard magician sorcerer",
     person(hat="wizard", coats=("#5a4fcf", "#3d5a99", "#7b2cbf"), beard="#f1f1f6", held="wand",
            dress=True)),
    ("witch fairy", person(hat="witch", coats=("#6a4c93", "#2f6f5e"), held="wand", dress=True)),
    ("pirate captain sailor", person(hat="pirate", beard="#6b3f24", held="sword", is_tall=True)),
    ("astronaut cosmonaut spaceman", person(hat="helmet", coats=("#f1f5f9", "#ffb703"))),
    ("knight warrior samurai",
     person(hat="knight", coats=("#8d99ae", "#adb5bd"), held="sword", is_tall=True)),
    ("king queen prince princess",
     person(hat="crown", coats=("#b5179e", "#d1495b", "#4361ee"), dress=True)),
    ("detective inspector sherlock",
     person(hat="detective", coats=("#b08968",), held="glass", is_tall=True)),
    ("chef cook baker", person(hat="chef", coats=("#f1f5f9",), is_tall=True)),
    ("girl boy child children kid toddler baby friend", person(held="balloon")),
    ("man woman mother father mom dad grandmother grandfather teacher doctor scientist inventor",
     person(is_tall=True)),
    ("hero heroine farmer gardener people person", person(is_tall=True)),
    ("ghost spirit", creatures.ghost),
    ("alien monster martian creature ogre troll goblin", creatures.monster),
    ("bird owl penguin parrot chicken duck eagle chick crow", creatures.bird),
    ("fish whale shark dolphin", creatures.fish),
    ("octopus squid kraken jellyfish", creatures.octopus),
    ("ship boat sailboat yacht", creatures.ship),
    ("rocket spaceship spacecraft shuttle", creatures.rocket),
    ("car taxi bus truck", creatures.car),
    ("snowman", creatures.snowman),
)  # fmt: skip
"""The words that call for a figure, and the figure; its name is the first of them."""
_PLACES: Final[Mapping[str, str]] = {
    "castle": "castle kingdom palace tower village medieval",
    "city": "city town street building roof rooftop skyline downtown traffic park",
    "desert": "desert sand pyramid egypt cactus camel dune",
    "forest": "forest wood jungle tree mushroom grove",
    "mountains": "mountain snow hill cave volcano ice glacier peak winter",
    "room": "room house home kitchen school library office bed bedroom lab laboratory museum shop",
    "sea": "sea ocean beach island wave water lighthouse harbor harbour underwater river lake",
    "space": "space moon planet star galaxy mars orbit comet asteroid universe",
}
"""The words that name each place."""
_HABITATS: Final[Mapping[str, str]] = {
    "castle": "king queen prince princess knight",
    "city": "car taxi bus truck superhero",
    "forest": "fox squirrel bear",
    "mountains": "snowman",
    "room": "detective chef inventor teacher",
    "sea": "ship boat pirate captain whale fish shark dolphin octopus",
    "space": "rocket astronaut alien spaceship martian",
}
"""The figures that are at home in a place, which is taken if the story names none."""
FIGURES: Final[Mapping[str, Figure]] = {names.split()[0]: figure for names, figure in _FIGURES}
"""The figures by name: the first word of those that call for them."""

_NAME_OF: Final = {word: names.split()[0] for names, _ in _FIGURES for word in names.split()}
"""The name of the figure that each word calls for."""
_PLACE_OF, _HABITAT_OF = (
    {word: place for place, words in table.items() for word in words.split()}
    for table in (_PLACES, _HABITATS)
)
_HEROIC: Final = frozenset({"superhero", "superheroes", "superheroine", "super", "hero", "cape"})
"""The words that give the first figure a cape."""
_STARS: Final = ("cat", "dog", "robot", "wizard", "dragon", "fox", "girl", "rabbit", "llama")
"""The heroes of stories that name nobody."""
_ANYWHERE: Final = ("city", "forest", "meadow", "mountains", "castle", "meadow")
"""The places of stories that name none; a meadow is twice as likely as the others."""
_BOLD: Final = frozenset(
    {"angry", "attack", "attacks", "battle", "brave", "chase", "chases", "defeat", "defeats"}
    | {"explode", "explodes", "fight", "fights", "flies", "fly", "hero", "race", "races"}
    | {"save", "saves", "storm"}
)
"""The words that make the figures look determined."""
_SWIMMERS: Final = frozenset({"fish", "octopus", "ship"})
"""The figures that may be in the sea; others stand on the beach."""
_WORD: Final = re.compile(r"[^\W\d_]+")
"""A word: letters of any script."""


@attrs.frozen
class Scene:
    """The content of one picture."""

    figures: tuple[str, ...]
    """Names in `FIGURES`, the most important one first; at least one."""
    has_hero: bool
    """Whether the first figure wears a cape."""
    place: str
    """The backdrop."""
    mood: Mood
    """The expression of all faces."""


def cast_scene(story: str, caption: str, seed: str) -> Scene:
    """Return the content of a panel.

    Args:
        story: The whole prompt, which decides who the heroes are and where they live.
        caption: The panel's own words; the figures they name are in the panel.
        seed: The seed of everything that the words leave open.
    """
    rng, fate = Random(f"{seed}/scene"), Random(f"{story}/fate")
    words, own = _words(story), _words(caption)
    heroes = _named(words) or [fate.choice(_STARS)]
    figures = _named(own) or heroes[:1]
    if len(figures) == 1 and len(heroes) > 1 and rng.random() < 0.5:  # noqa: PLR2004
        figures = list(dict.fromkeys([*figures, *heroes]))[:2]
    place = (
        _place(own, _PLACE_OF)
        or _place(words, _PLACE_OF)
        or _place(own + words, _HABITAT_OF)
        or fate.choice(_ANYWHERE)
    )
    figures = figures[:_FIGURES_AT_MOST]
    if place == "sea" and not _SWIMMERS.issuperset(figures):
        place = "beach"
    return Scene(
        figures=tuple(figures),
        has_hero=bool(_HEROIC & set(words)) and figures[0] == heroes[0],
        place=place,
        mood=_mood(caption, own, rng),
    )


def _words(text: str) -> list[str]:
    """Return the words in lower case; an emoji counts as its name."""
    spoken = "".join(
        f" {unicodedata.name(char, '')} " if unicodedata.category(char) == "So" else char
        for char in text
    )
    return [word.lower() for word in _WORD.findall(spoken)]


def _named(words: list[str]) -> list[str]:
    """Return the figures that are named, each one once."""
    names = (_singular(word, _NAME_OF) for word in words)
    return list(dict.fromkeys(_NAME_OF[name] for name in names if name))


def _place(words: list[str], table: Mapping[str, str]) -> str | None:
    """Return the place that the first word with an entry stands for."""
    names = (_singular(word, table) for word in words)
    return next((table[name] for name in names if name), None)


def _singular(word: str, known: Mapping[str, object]) -> str | None:
    for candidate in (word, word.removesuffix("s"), word.removesuffix("es")):
        if candidate in known:
            return candidate
    return None


def _mood(caption: str, words: list[str], rng: Random) -> Mood:
    if _BOLD & set(words):
        return "bold"
    if "?" in caption or "!" in caption:
        return rng.choice(("surprised", "bold", "surprised"))
    return rng.choice(("happy", "happy", "happy", "surprised"))

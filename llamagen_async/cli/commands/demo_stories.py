"""The dozen stories of the demo: every size, pages and panels, several languages. Data only."""

from __future__ import annotations

from typing import Any, Final

__all__ = ["DEMO_STORIES"]

DEMO_STORIES: Final[tuple[dict[str, Any], ...]] = (
    {
        "prompt": "A superhero cat hears a cry for help. She flies over the city at night. Giant "
        "mice have stolen the cheese! The cat brings it back, and the mice say sorry.",
        "size": "1024x1024",
        "fix_panel_num": 4,
        "style": "superhero",
    },
    {
        "prompt": "A small robot finds a flower in the desert. It has never seen one. It carries "
        "water across the sand every day. One morning the desert is a garden.",
        "size": "768x1024",
        "fix_panel_num": 4,
        "style": "watercolor",
    },
    {
        "prompt": "A shy dragon wants to bake bread, but his fire is too hot. A child shows him "
        "how to breathe gently. The castle smells of fresh bread.",
        "size": "1024x768",
        "fix_panel_num": 3,
        "style": "storybook",
    },
    {
        "prompt": "Un robot rencontre un dragon dans un village. Le dragon a froid ! Le robot lui "
        "offre une soupe bien chaude.",
        "size": "1024x576",
        "fix_panel_num": 3,
        "language": "fr",
    },
    {
        "prompt": "A dog rides a rocket to the moon. There he finds the biggest bone in space.",
        "size": "512x768",
        "fix_panel_num": 2,
        "style": "retro",
    },
    {
        "prompt": "An old wizard loses his hat in the forest. A fox is wearing it. A bird is "
        "nesting in it. An owl explains the rules of lost hats. The wizard knits a smaller one. "
        "Now everybody in the forest has a hat.",
        "size": "1024x1024",
        "pagination": {"total_pages": 2, "panels_per_page": 3},
        "style": "storybook",
    },
    {
        "prompt": "Ein Tiger friert im Winter. Ein Hamster bringt ihm Tee und eine warme Decke. "
        "Jetzt schnurrt der Tiger!",
        "size": "768x512",
        "fix_panel_num": 3,
        "language": "de",
    },
    {
        "prompt": "A pirate ship sails across the sea to an island. The treasure map is upside "
        "down! The pirate digs in the wrong place and finds a friendly ghost.",
        "size": "1024x512",
        "fix_panel_num": 3,
        "style": "adventure",
    },
    {
        "prompt": "Un panda llega tarde a la escuela. ¡El panda toma un taxi! El taxi vuela sobre "
        "la ciudad.",
        "size": "576x1024",
        "fix_panel_num": 3,
        "language": "es",
    },
    {
        "prompt": "An astronaut on a red planet plants a flower. An alien waters it in secret.",
        "size": "512x1024",
        "fix_panel_num": 2,
        "style": "science fiction",
    },
    {
        "prompt": "A rabbit and a bear race through the city in little cars. The bear stops to "
        "help a turtle. The rabbit stops to help the bear. Everybody comes first.",
        "size": "1024x1024",
        "pagination": {"total_pages": 2, "panels_per_page": 2},
        "style": "cartoon",
    },
    {
        "prompt": "A queen in a castle asks for the moon. A knight brings her a fish bowl on a "
        "clear night: the moon swims in it. Let us keep it until morning, says the "
        "queen.",
        "size": "1024x1024",
        "fix_panel_num": 3,
        "style": "ink",
    },
)
"""Fields of each request."""

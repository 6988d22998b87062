"""Words that a request's fields may have, as types: editors complete them.

Where the API may know more words than these, any text is of the type, too, and is sent. The lists
that are closed are those of which the vendor's clients take no other word.
"""

from __future__ import annotations

from typing import Final, Literal, get_args

__all__ = [
    "ASPECT_RATIOS",
    "ATTACHMENT_TYPES",
    "LANGUAGES",
    "MODELS",
    "OPEN",
    "PRESETS",
    "RESOLUTIONS",
    "SITE_SIZES",
    "SIZES",
    "AspectRatio",
    "AttachmentType",
    "Language",
    "Model",
    "Preset",
    "Resolution",
    "Size",
    "Upscale",
]

_ClientSize = Literal[
    "1024x1024",
    "512x768",
    "512x1024",
    "576x1024",
    "768x1024",
    "1024x768",
    "768x512",
    "1024x576",
    "1024x512",
]
_SiteSize = Literal["512x512", "768x768", "1024x1536", "1536x1024", "1024x1792", "1792x1024"]
# fmt: off
_LanguageCode = Literal[
    "aa", "ab", "ae", "af", "ak", "am", "an", "ar", "as", "av", "ay", "az", "ba", "be", "bg",
    "bh", "bi", "bm", "bn", "bo", "br", "bs", "ca", "ce", "ch", "co", "cr", "cs", "cu", "cv",
    "cy", "da", "de", "dv", "dz", "ee", "el", "en", "eo", "es", "et", "eu", "fa", "ff", "fi",
    "fj", "fo", "fr", "fy", "ga", "gd", "gl", "gn", "gu", "gv", "ha", "he", "hi", "ho", "hr",
    "ht", "hu", "hy", "hz", "ia", "id", "ie", "ig", "ii", "ik", "io", "is", "it", "iu", "ja",
    "jv", "ka", "kg", "ki", "kj", "kk", "kl", "km", "kn", "ko", "kr", "ks", "ku", "kv", "kw",
    "ky", "la", "lb", "lg", "li", "ln", "lo", "lt", "lu", "lv", "mg", "mh", "mi", "mk", "ml",
    "mn", "mr", "ms", "mt", "my", "na", "nb", "nd", "ne", "ng", "nl", "nn", "no", "nr", "nv",
    "ny", "oc", "oj", "om", "or", "os", "pa", "pi", "pl", "ps", "pt", "qu", "rm", "rn", "ro",
    "ru", "rw", "sa", "sc", "sd", "se", "sg", "si", "sk", "sl", "sm", "sn", "so", "sq", "sr",
    "ss", "st", "su", "sv", "sw", "ta", "te", "tg", "th", "ti", "tk", "tl", "tn", "to", "tr",
    "ts", "tt", "tw", "ty", "ug", "uk", "ur", "uz", "ve", "vi", "vo", "wa", "wo", "xh", "yi",
    "yo", "za", "zh", "zu",
]
# fmt: on
_KnownModel = Literal["auto"]
_KnownPreset = Literal["render", "neutral", "japanese_manga", "animeStyle", "comicBookStyle"]
_KnownResolution = Literal["480p", "720p", "1080p", "4k"]
_KnownAspectRatio = Literal["16:9", "9:16", "1:1", "4:3", "3:4"]

Size = _ClientSize | _SiteSize | str
"""A picture's width and height in pixels, such as `1024x1024`."""
Model = _KnownModel | str
"""The name of a model; the vendor's pages name one."""
Preset = _KnownPreset | str
"""The name of a preset: those that the vendor's pages and clients name; there are hundreds more."""
Language = _LanguageCode | str
"""The code of a language (ISO 639-1), maybe with a region or a script. The API's own list is not
known; its examples are of these, and what is none is often a country's: `jp` for `ja`."""
Resolution = _KnownResolution | str
"""A video's resolution: those that the vendor's clients offer."""
AspectRatio = _KnownAspectRatio | str
"""A video's width and height, with a colon between them: those that the vendor's clients offer."""
AttachmentType = Literal["image", "document", "video"]
"""The sort of a file."""
Upscale = bool | Literal["2K", "4K"]
"""How much pictures are enlarged."""

OPEN: Final = ("AspectRatio", "Language", "Model", "Preset", "Resolution", "Size")
"""The names of the types that any text is of."""
SIZES: Final[tuple[str, ...]] = get_args(_ClientSize)
"""The picture sizes that the vendor's clients offer, in pixels, width first."""
SITE_SIZES: Final[tuple[str, ...]] = get_args(_SiteSize)
"""Further sizes that a page of the vendor's site names."""
LANGUAGES: Final = frozenset[str](get_args(_LanguageCode))
"""The codes of languages, without a region."""
MODELS: Final[tuple[str, ...]] = get_args(_KnownModel)
"""Models that are known."""
PRESETS: Final[tuple[str, ...]] = get_args(_KnownPreset)
"""Presets that are known."""
RESOLUTIONS: Final[tuple[str, ...]] = get_args(_KnownResolution)
"""Resolutions that are known."""
ASPECT_RATIOS: Final[tuple[str, ...]] = get_args(_KnownAspectRatio)
"""Aspect ratios that are known."""
ATTACHMENT_TYPES: Final[tuple[str, ...]] = get_args(AttachmentType)
"""All sorts of files."""

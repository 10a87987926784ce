"""The phrases of the text residual; one vector per encoder, no class name (algorithm, section 2)."""

TEMPLATES = (
    "a photo of a {}.",
    "a photo of the {}.",
    "a cropped photo of a {}.",
    "a cropped photo of the {}.",
    "a close-up photo of a {}.",
    "a close-up photo of the {}.",
    "the {} in the image.",
    "the {} in the scene.",
    "an image of a {}.",
    "an image of the {}.",
    "a rendering of a {}.",
    "a photo of one {}.",
    "showing the {}.",
    "showing a {}.",
    "itap of a {}.",
)
NORMAL = ("object", "perfect object", "flawless object", "clean object", "undamaged object")
ANOMALOUS = ("damaged object", "object with damaged")


def sentences(phrases: tuple[str, ...]) -> list[str]:
    """Each phrase in each template."""
    return [template.format(phrase) for phrase in phrases for template in TEMPLATES]

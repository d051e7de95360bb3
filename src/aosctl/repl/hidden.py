"""What prompts draw in the place of characters that are there and can't be seen."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

from prompt_toolkit.formatted_text import fragment_list_to_text  # noqa: TID253 - prompts alone import this
from prompt_toolkit.layout.processors import Processor, Transformation  # noqa: TID253
from prompt_toolkit.layout.utils import explode_text_fragments  # noqa: TID253

from aosctl.terminal import is_safe, visible

if TYPE_CHECKING:
    from prompt_toolkit.formatted_text import StyleAndTextTuples
    from prompt_toolkit.layout.processors import TransformationInput

_JOINERS = "\u200c\u200d"
"""They take no room of their own and belong to letters and emoji."""


class ShowHidden(Processor):
    """Draws hidden and control characters of a line as `<202e>`; the line itself stays as it is.

    For what somebody pastes, and for a name that TAB has completed.
    """

    def apply_transformation(self, transformation_input: TransformationInput) -> Transformation:
        """Return the line as it is drawn, and what stands where."""
        line = transformation_input.fragments
        if is_safe(fragment_list_to_text(line)):
            return Transformation(line)
        drawn: StyleAndTextTuples = []
        places = [0]
        for style, character, *_ in explode_text_fragments(line):
            form = drawn_as(character)
            drawn.append((style if form == character else f"{style} class:control-character", form))
            places.append(places[-1] + len(form))

        def to_display(source: int) -> int:
            last = len(places) - 1
            return places[min(source, last)] + max(source - last, 0)

        def to_source(display: int) -> int:
            return bisect_right(places, display) - 1 + max(display - places[-1], 0)

        return Transformation(drawn, source_to_display=to_display, display_to_source=to_source)


def drawn_as(character: str) -> str:
    """Return how one character is drawn: itself, if it can be seen."""
    if character in _JOINERS:
        return character
    return visible(character, lambda hidden: f"<{ord(hidden):02x}>")

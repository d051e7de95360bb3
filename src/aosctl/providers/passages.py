"""Choose the part of a passage that answers a question, by the words they share."""

from __future__ import annotations

import re

PASSAGE_AT_MOST = 480
_WORD = re.compile(r"[^\W_]{2,}")
_ENDING = re.compile(r"(ings?|edly|ed|es|s|ly)\Z")
# A fenced block, a line that ends a paragraph, or a sentence: each is kept whole.
_UNIT = re.compile(r"```.*?```|[^\n]+?(?:[.!?:](?=\s)|(?=\n)|\Z)", re.DOTALL)
_COMMON = frozenset(
    _WORD.findall(
        "an and are as at be but by can do does for from how if in into is it its me my no not of "
        "on or should so than that the their then there this to use using was we what when where "
        "which who why will with would you your"
    )
)


def terms(text: str) -> frozenset[str]:
    """Return the words of a text that carry meaning, without their endings."""
    words = (word.lower() for word in _WORD.findall(text))
    return frozenset(_ENDING.sub("", word) or word for word in words if word not in _COMMON)


def best_part(text: str, wanted: frozenset[str], at_most: int = PASSAGE_AT_MOST) -> str:
    """Quote, word for word, the run of whole sentences that holds most of the wanted words."""
    text = text.strip()
    if len(text) <= at_most:
        return text
    spans = [match.span() for match in _UNIT.finditer(text)]
    best, best_score = spans[0], (-1, False)
    for i, (start, first_end) in enumerate(spans):
        end = first_end
        for _, next_end in spans[i + 1 :]:
            if next_end - start > at_most:
                break
            end = next_end
        # Of two runs with the same words, the one that begins with one of them.
        found = terms(text[start:end]) & wanted
        score = (len(found), bool(terms(text[start:first_end]) & wanted))
        if score > best_score:
            best, best_score = (start, end), score
    start, end = best
    quoted = text[start : min(end, start + at_most)].strip()
    cut_after = text[:end].strip() != text or end - start > at_most
    return f"{'… ' if start > 0 else ''}{quoted}{' …' if cut_after else ''}"

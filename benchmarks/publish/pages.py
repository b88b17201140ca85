"""Pages that have parts which are made, between two comments; all else in them is written by hand."""

import re
from collections.abc import Mapping

__all__ = ["PageError", "filled", "names"]

BEGIN = re.compile(r"^<!-- made: ", re.MULTILINE)
PART = re.compile(r"^(<!-- made: (\w+) -->\n).*?^(<!-- end of \2 -->)$", re.DOTALL | re.MULTILINE)


class PageError(ValueError):
    """A page asks for a part that there isn't."""


def names(page: str) -> list[str]:
    """The parts that a page has."""
    return [match[2] for match in PART.finditer(page)]


def filled(page: str, parts: Mapping[str, str]) -> str:
    """A page with its parts made anew."""
    if len(BEGIN.findall(page)) != len(names(page)):
        raise PageError("a part has no end")
    if unknown := set(names(page)) - parts.keys():
        raise PageError(f"there is nothing to make of: {', '.join(sorted(unknown))}")
    return PART.sub(lambda match: f"{match[1]}\n{parts[match[2]]}\n\n{match[3]}", page)

"""What may be written to a terminal."""

import re
from typing import Final

__all__ = ["harmless"]

# Control characters can do anything to a terminal, up to typing commands into it. Those that turn the direction of
# writing, and the line separators, can make a text look like another.
_DANGEROUS: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def harmless(text: str) -> str:
    """The text with control characters escaped as in JSON, but for tabs and line feeds."""
    return _DANGEROUS.sub(lambda match: f"\\u{ord(match[0]):04x}", text)

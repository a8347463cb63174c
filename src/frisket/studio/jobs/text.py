"""Text of files and programs as the page may have it."""

import re


def clean_text(text: str) -> str:
    """Text that UTF-8 can hold: bytes of names that are no text are spelt out."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def clean_line(text: str) -> str:
    """As `clean_text`, control characters spelt out too."""
    return re.sub(
        r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", lambda match: repr(match[0])[1:-1], clean_text(text)
    )

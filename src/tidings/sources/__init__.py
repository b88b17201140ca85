"""What yields items, of any kind, as an async iterator."""

__all__: list[str] = []

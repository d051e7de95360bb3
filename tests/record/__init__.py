"""The recorded session that the README opens with: `python -m tests.record` makes it anew."""

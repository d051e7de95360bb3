"""Documents into collections: found, read, turned into text, cut and embedded."""

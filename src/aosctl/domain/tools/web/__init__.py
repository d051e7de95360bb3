"""HTTP for tools, under one guard; nothing else here opens a connection."""

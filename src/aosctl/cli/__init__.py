"""The verbs of the shell: one file each, loaded only when typed."""

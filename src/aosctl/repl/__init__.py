"""The chat screen: append-only output, the prompt, approvals, and a turn that Ctrl-C can stop."""

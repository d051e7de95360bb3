"""aosctl: the shell of pgAgentOS, an operating system for AI agents inside PostgreSQL."""

__version__ = "0.1.0"

"""Which kernels this client works with."""

from __future__ import annotations

KERNEL_VERSION = "0.1.0"
COMPATIBLE = frozenset({KERNEL_VERSION})
"""Kernel versions that this client works with: its own and, later, the one before."""
KERNEL_BUILD = "f9607bd1bda8"
"""The build of that version (aos_meta.kernel_version); written by `python -m tests.catalog`."""

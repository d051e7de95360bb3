"""Tests of agents: what is expected, what came, and how that is told."""

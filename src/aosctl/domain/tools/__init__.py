"""Skills that the worker carries out itself; the kernel runs the others."""

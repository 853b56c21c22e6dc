"""Functions that workers call for a program: `concurrent.futures` on a queue."""

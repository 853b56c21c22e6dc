"""Looks for what is wrong: with a file system, or with a queue."""

"""Functions of Python instead of commands: found by name, and called with each message."""

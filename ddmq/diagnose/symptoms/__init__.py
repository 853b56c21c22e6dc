"""What can be wrong with a queue: each function looks for one thing, and changes nothing."""

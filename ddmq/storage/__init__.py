"""What is on disk, and every change to it."""

"""What the first ddmq, 0.9, called things and left on disk."""

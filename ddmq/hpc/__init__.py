"""ddmq in cluster jobs: the worker and what it needs."""

"""The commands `ddmq`, `ddmq-worker` and `ddmq-submit`."""

"""`ddmq check`: whether a file system keeps the promises that ddmq needs."""

"""`concurrent.futures` on a queue: calls that workers make, and whose results come back."""

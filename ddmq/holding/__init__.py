"""Leases that are held: a message that renews itself while it is worked on, and the heartbeat."""

"""`ddmq report`: what a run was, long after it, from the journals of its workers."""

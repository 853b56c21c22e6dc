"""Results of messages: one file or directory for each, its name, and whose it is."""

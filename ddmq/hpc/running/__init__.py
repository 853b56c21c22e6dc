"""What runs for messages: commands with their processes, what they print, and how they end."""

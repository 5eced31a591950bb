"""The recipe of the episode memory: percepts first, then answers."""

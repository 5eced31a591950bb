"""The memory of an episode: percepts of frames, a log of actions, and the head that answers from them."""

"""Questions with true answers about simulated frames and episodes."""

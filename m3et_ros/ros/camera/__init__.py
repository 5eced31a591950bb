"""Camera topics: subscriptions, the thread that waits for them, and the pairing of colour with depth."""

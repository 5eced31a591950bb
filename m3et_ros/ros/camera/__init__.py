"""Building blocks of the camera inputs: subscriptions, the thread that waits for them, pairing of colour with depth."""

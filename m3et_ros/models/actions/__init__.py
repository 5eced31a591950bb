"""Action recognition and anticipation: MambaVL (2409.11513), the history model and its n-gram baseline."""

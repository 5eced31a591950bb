"""State-space operators on plain tensors: selective scan (S6) and state-space dual (SSD)."""

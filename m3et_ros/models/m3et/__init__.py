"""M3ET (2509.18005): configuration, encoder, adapters, decoders, masking and cost."""

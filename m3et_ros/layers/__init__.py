"""Attention, Mamba mixers, scan order and the hybrid stack that strings them together."""

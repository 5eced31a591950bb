"""Outputs of a frozen M3ET on cached kitchens, encoded once and read many times by the heads that learn from them."""

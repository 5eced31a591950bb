"""Rendered kitchens on disk: recipe, generation, and the data sets that read them."""

"""EPIC-KITCHENS-100: annotations, class lists, segments in a model's labels, action histories, and clips of frames."""

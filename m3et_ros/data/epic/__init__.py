"""EPIC-KITCHENS-100: annotations, class lists, labels, histories and frames."""

"""Data sets of the user's own recordings, labelled by teacher networks and corrected by hand."""

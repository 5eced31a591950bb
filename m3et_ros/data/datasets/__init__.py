"""Public data sets and the user's own recordings, as samples to train on or questions to answer."""

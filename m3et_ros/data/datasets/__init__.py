"""Public data sets and recordings as samples to train on or questions to answer."""

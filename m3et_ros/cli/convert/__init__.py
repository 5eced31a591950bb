"""`m3et convert`: recordings, data sets and weights in another format."""

"""Data between files and models: frames, samples, recordings, data sets, checkpoints and the simulated kitchen."""

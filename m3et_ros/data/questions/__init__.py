"""Questions in everyday words: what a model was taught to answer, and how a question is read before it is asked."""

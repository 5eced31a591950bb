"""Teach a model a place: label recordings, extend the model, train both stages, and measure before and after."""

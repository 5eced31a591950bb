"""Evaluation of an M3ET on samples: which pictures and questions it gets, and what becomes of its answers."""

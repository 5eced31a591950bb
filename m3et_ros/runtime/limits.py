"""Values that parameters, commands and the engine share; importing them imports nothing heavy."""

PRECISIONS = ('float32', 'bfloat16', 'int8')
"""Values of the parameter `precision`."""
TOKENS = ('full', 'adaptive')
"""Values of the parameter `tokens`."""
ROUTER_CONFIDENCE = 0.7
"""Calibrated confidence from which on the router leaves a question to M3ET, unless it is set."""
QUESTION_CHARS = 1000
"""Most characters of a question, everywhere; a node's parameter max_question_chars changes it there."""

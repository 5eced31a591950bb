"""The error that is raised for bad input, which the sender has to correct."""


class InputError(ValueError):
    """Input that was refused, in one sentence: what, why and the fix.

    Attributes:
        reason: a short snake_case word under which diagnostics count the refusal, for example 'step_too_short'.
    """

    def __init__(self, reason: str, message: str):
        super().__init__(printable(message))
        self.reason = reason


def printable(text: str) -> str:
    """Return a text on one line without control characters; these become escapes as in Python.

    A path or a name that a peer sends could otherwise forge lines of the log or command the terminal.
    """
    return ''.join(c if c.isprintable() else c.encode('unicode_escape', 'backslashreplace').decode() for c in text)

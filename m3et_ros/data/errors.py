"""The error that is raised for bad input, which the sender has to correct."""


class InputError(ValueError):
    """Input that was refused, in one sentence: what, why and the fix.

    Attributes:
        reason: a short snake_case word under which diagnostics count the refusal, for example 'step_too_short'.
    """

    def __init__(self, reason: str, message: str):
        super().__init__(message)
        self.reason = reason

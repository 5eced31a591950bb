"""Text from steps: it grows by a token a step, and inference mode ends with each step."""

import torch

from m3et_ros.runtime.texts import texts


def test_each_step_is_computed_when_asked_for_in_inference_mode_that_the_caller_does_not_get():
    modes = []

    def steps():
        for token, probability in ((7, 0.5), (9, 0.25)):
            modes.append(torch.is_inference_mode_enabled())
            yield torch.tensor([token]), torch.tensor([probability])

    written = texts(steps(), lambda tokens: '-'.join(map(str, tokens)))
    assert modes == []
    assert next(written) == ('7', 0.5) and modes == [True] and not torch.is_inference_mode_enabled()
    assert list(written) == [('7-9', 0.25)]

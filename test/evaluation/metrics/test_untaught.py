import pytest
import torch

from m3et_ros.evaluation.metrics.untaught import COST, HIGHEST, STEP, fit_bonus


def questions(margins, *, answer=0):
    """Return scores of answers 0 and 1, of which 1 lies `margins` below 0, their right answers, and 1 as untaught."""
    logits = torch.stack([torch.zeros(len(margins)), -torch.tensor(margins)], 1)
    return logits, torch.full((len(margins),), answer), torch.tensor([False, True]).expand(len(margins), 2)


def test_the_bonus_is_the_largest_that_turns_no_more_than_its_cost():
    count = round(2 / COST)  # two of them may turn
    assert fit_bonus(*questions([1.1, 2.1, 3.1] + [9.0] * (count - 3))) == 3.0
    assert fit_bonus(*questions([9.0] * count)) == HIGHEST
    assert fit_bonus(*questions([STEP / 2] * count)) == 0.0


def test_questions_about_what_was_left_out_decide_nothing():
    logits, answers, untaught = questions([1.1, 9.0])
    more, right, _ = questions([4.0, 5.0], answer=1)
    assert fit_bonus(torch.cat([logits, more]), torch.cat([answers, right]), untaught[:1].expand(4, 2)) == 1.0


@pytest.mark.parametrize('answer', (0, 1))
def test_without_untaught_answers_or_taught_questions_there_is_no_bonus(answer):
    logits, answers, untaught = questions([1.0, 1.0], answer=answer)
    assert fit_bonus(logits, answers, untaught & (answer == 1)) == 0.0

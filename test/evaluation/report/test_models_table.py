"""A table with a line for each model: which lines belong together, their order, and what is no run."""

import json

import pytest

from m3et_ros.data.errors import InputError
from m3et_ros.evaluation.report.models_table import FIELDS, document, lines_of, merged, models_table


def line(model, value, name='s1', **more):
    score = {'value': value, 'low': value - 0.1, 'high': value + 0.1, 'kitchens': 3}
    fields = {'set': name, 'task': 'kitchens c', 'questions': 20, 'model': model, 'prompt': '', 'score': score}
    return fields | {'best_blind': 0.25, 'unanswered': None, 'families': {'colour': value}, 'command': 'm3et'} | more


def test_the_last_line_of_a_model_counts_and_the_best_model_comes_first():
    lines = merged([[line('a', 0.2), line('b', 0.5)], [line('a', 0.6)], [line('c', 0.1, 's2')]])
    assert [(one['set'], one['model'], one['score']['value']) for one in lines] == [
        ('s1', 'a', 0.6),
        ('s1', 'b', 0.5),
        ('s2', 'c', 0.1),
    ]
    text = models_table(lines)
    assert text.count('20 questions, set `') == 2 and 'the best guess without images has 25.0%' in text
    assert text.index('| a |') < text.index('| b |') < text.index('| c |') and '60.0%' in text


def test_a_table_that_was_written_is_read_again(tmp_path):
    lines = [line('a', 0.2)]
    (tmp_path / 'models.json').write_text(json.dumps(document(lines)))
    assert lines_of(tmp_path) == lines_of(tmp_path / 'models.json') == lines and set(lines[0]) == set(FIELDS)


def test_runs_over_recordings_have_a_set_by_their_questions_and_kind(tmp_path):
    def run(scope, sha):
        made = {'questions': {'sha256': sha}, 'settings': {'scope': scope}, 'model': {'id': 'm'}, 'command': 'x'}
        part = {'exact_match': {'value': 0.5, 'low': None, 'high': None}, 'questions': 4, 'unanswered': 0.25}
        found = {'made_by': made, 'metrics': {'all': part, 'categories': {'state': part}}}
        (tmp_path / 'metrics.json').write_text(json.dumps(found))
        return lines_of(tmp_path)[0]

    assert run('episode', '1')['set'] == run('frame', '1')['set'] != run('moment', '1')['set']
    assert run('episode', '1')['set'] != run('episode', '2')['set']
    assert (run('moment', '1')['task'], run('moment', '1')['unanswered']) == ('recordings, moment', 0.25)
    assert run('moment', '1')['families'] == {'state': 0.5}


@pytest.mark.parametrize(
    'content', ['{}', '[]', '{', '{"made_by": {}, "metrics": 3}'], ids=['empty', 'list', 'cut', 'odd']
)
def test_what_is_no_run_is_refused(tmp_path, content):
    (tmp_path / 'metrics.json').write_text(content)
    with pytest.raises(InputError, match='has no results of m3et evaluate') as refused:
        lines_of(tmp_path)
    assert refused.value.reason == 'table_source'
    with pytest.raises(InputError, match='give the folder of a run'):
        lines_of(tmp_path / 'nowhere')

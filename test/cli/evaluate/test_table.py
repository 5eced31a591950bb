"""m3et evaluate table: files, what is printed, and what is refused."""

import json

from m3et_ros.cli.main import main

LINE = {
    'set': 's',
    'task': 'kitchens c',
    'questions': 9,
    'model': 'one@12345678',
    'prompt': '',
    'score': {'value': 0.5, 'low': 0.4, 'high': 0.6, 'kitchens': 2},
    'best_blind': None,
    'unanswered': 0.0,
    'families': {},
    'command': 'm3et',
}


def test_tables_are_merged_into_files_and_printed(tmp_path, capsys):
    for name in ('one', 'two'):
        (tmp_path / name).mkdir()
        document = {'schema': 1, 'lines': [LINE | {'model': f'{name}@12345678'}]}
        (tmp_path / name / 'models.json').write_text(json.dumps(document))
    out = tmp_path / 'out'
    assert main(['evaluate', 'table', str(tmp_path / 'one'), str(tmp_path / 'two'), '--out', str(out)]) == 0
    text = capsys.readouterr().out
    assert text == (out / 'models.md').read_text() and text.count('@12345678') == 2
    assert [line['model'] for line in json.loads((out / 'models.json').read_text())['lines']] == [
        'one@12345678',
        'two@12345678',
    ]


def test_a_folder_without_results_is_refused(tmp_path, capsys):
    assert main(['evaluate', 'table', str(tmp_path), '--out', str(tmp_path / 'out')]) == 1
    assert 'has no results of m3et evaluate vqa or eqa' in capsys.readouterr().err

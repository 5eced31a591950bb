import json

from m3et_ros.cli.main import main


def test_base_has_the_parameters_of_its_ledger(capsys):
    assert main(['models', '--json']) == 0
    models = {model['name']: model for model in json.loads(capsys.readouterr().out)['models']}
    assert {'base', 'base_ssd', 'compact', 'kitchen', 'tiny'} <= set(models)
    base = models['base']
    assert base['parameters'] == sum(base['parts'].values()) == 65_393_642
    assert base['image_parameters'] == 40_249_768
    assert [round(base['macs'][tokens] / 1e9, 2) for tokens in ('98', '176', '588')] == [4.57, 7.33, 22.86]
    assert models['compact']['ratio_to_multimae'] < 1 - 0.6663
    assert models['tiny']['macs'] == {}


def test_the_table_is_for_people(capsys):
    assert main(['models', '--parts']) == 0
    shown = capsys.readouterr().out
    assert '65,393,642' in shown and '40,249,768' in shown and 'encoder layers' in shown

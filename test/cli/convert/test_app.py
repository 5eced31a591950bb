"""The group of `m3et convert`: its verbs, and a path in the place of one."""

from m3et_ros.cli.main import main


def test_the_group_lists_its_verbs(capfd):
    main(['convert', '--help'])
    shown = capfd.readouterr().out
    assert all(f' {verb} ' in shown for verb in ('bag', 'lerobot', 'weights'))


def test_a_word_that_is_neither_verb_nor_path_is_refused(capfd):
    assert main(['convert', 'nothing']) == 2
    assert 'nothing' in capfd.readouterr().err

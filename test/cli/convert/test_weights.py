"""`m3et convert weights` on the command line."""

import json

import pytest
import torch

from m3et_ros.cli.main import main

pytestmark = pytest.mark.timeout(600)  # each file is read by a process of its own, which imports torch


def test_the_command_converts_and_names_what_it_left_out(tmp_path, capfd):
    torch.save({'model': {'a': torch.ones(2), 'step': 3}, 'epoch': 1}, tmp_path / 'w.pt')
    assert main(['convert', 'weights', str(tmp_path / 'w.pt'), '-o', str(tmp_path / 'one')]) == 0
    text = capfd.readouterr().out
    assert "only its 'model' was converted" in text and '1 values are no tensors and were left out: step' in text
    assert f'1 tensors in {tmp_path}/one/model.safetensors' in text


def test_the_command_reports_as_json(tmp_path, capfd):
    torch.save({'model': {'a': torch.ones(2), 'step': 3}, 'epoch': 1}, tmp_path / 'w.pt')
    assert main(['convert', 'weights', str(tmp_path / 'w.pt'), '-o', str(tmp_path / 'two'), '--json']) == 0
    found = json.loads(capfd.readouterr().out)
    assert found['files'] == ['model.safetensors'] and found['parts'] == ['model'] and found['left_out'] == ['step']


def test_a_file_that_is_refused_gives_a_sentence_and_code_1(tmp_path, capfd):
    command = ['convert', 'weights', str(tmp_path / 'w.pt'), '-o', str(tmp_path / 'out'), '--timeout', '300']
    assert main(command) == 1
    assert 'There is no' in capfd.readouterr().err

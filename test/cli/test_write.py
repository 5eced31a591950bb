"""`m3et write` on the command line."""

import json

import torch
from released_folder import write_tokenizer
from transformers import Mamba2Config, Mamba2ForCausalLM

from m3et_ros.cli.main import main
from m3et_ros.models.vlm.generation import Sampling
from m3et_ros.runtime.language import LanguageWriter


def test_options_arrive_and_the_text_is_printed_as_it_grows(tmp_path, capfd):
    torch.manual_seed(0)
    sizes = {'hidden_size': 32, 'num_heads': 8, 'head_dim': 8, 'state_size': 16, 'n_groups': 1}
    Mamba2ForCausalLM(Mamba2Config(**sizes, num_hidden_layers=2, vocab_size=336)).save_pretrained(tmp_path / 'lm')
    write_tokenizer(tmp_path / 'lm')
    options = ['--tokens', '5', '--temperature', '3', '--top-p', '0.9', '--seed', '7', '--device', 'cpu']
    command = ['write', 'Is the', '--model', str(tmp_path / 'lm'), *options]
    pieces = list(LanguageWriter(tmp_path / 'lm').write('Is the', Sampling(5, temperature=3, top_p=0.9), seed=7))
    assert main([*command, '--json']) == 0
    found = json.loads(capfd.readouterr().out)
    assert (found['added'], found['tokens'], found['text']) == (pieces[-1][0], len(pieces), 'Is the')
    assert found['mean_log_probability'] < 0
    assert main(command) == 0
    assert len(capfd.readouterr().out) > 1
    assert main(['write', 'x', '--model', str(tmp_path)]) == 1
    assert 'There is no' in capfd.readouterr().err

"""Released language models continue texts: the tokens of transformers' own generation, and refusals."""

import json

import pytest
import torch
from released_folder import write_tokenizer
from transformers import MambaConfig, MambaForCausalLM, PhiConfig, PhiForCausalLM
from transformers.models.codegen.tokenization_codegen import CodeGenTokenizer

from m3et_ros.data.errors import InputError
from m3et_ros.models.vlm.generation import Sampling
from m3et_ros.runtime.language import MAX_TOKENS, LanguageWriter

TEXT = 'Is the cup'


def folder_of(path, kind, vocabulary=336):
    torch.manual_seed(0)
    if kind == 'mamba':
        model = MambaForCausalLM(MambaConfig(hidden_size=32, num_hidden_layers=2, vocab_size=vocabulary))
    else:
        sizes = {'hidden_size': 32, 'intermediate_size': 48, 'num_hidden_layers': 2, 'num_attention_heads': 4}
        model = PhiForCausalLM(PhiConfig(**sizes, vocab_size=vocabulary))
    model.save_pretrained(path)
    write_tokenizer(path)
    return path, model.eval()


@pytest.mark.parametrize('kind', ['mamba', 'phi'])
def test_a_text_goes_on_as_transformers_generates_it(tmp_path, kind):
    path, theirs = folder_of(tmp_path / kind, kind)
    tokenizer = CodeGenTokenizer.from_pretrained(path)
    ids = torch.tensor([tokenizer(TEXT).input_ids])
    wanted = theirs.generate(
        ids, max_new_tokens=6, do_sample=False, eos_token_id=tokenizer.eos_token_id, pad_token_id=0
    )[0, ids.shape[1] :]
    pieces = list(LanguageWriter(path).write(TEXT, Sampling(6)))
    assert pieces[-1][0] == LanguageWriter(path).tokenizer.decode(wanted.tolist())
    assert 0 < len(pieces) <= 6 and all(0 < probability <= 1 for _, probability in pieces)


def test_draws_follow_the_seed(tmp_path):
    path, _ = folder_of(tmp_path / 'mamba', 'mamba')
    writer, sampling = LanguageWriter(path), Sampling(12, temperature=5.0)
    texts = [list(writer.write(TEXT, sampling, seed=seed))[-1][0] for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


def test_refusals(tmp_path):
    path, _ = folder_of(tmp_path / 'mamba', 'mamba')
    writer = LanguageWriter(path)
    for text, reason in (('', 'question_empty'), ('cup ' * MAX_TOKENS, 'question_long')):
        with pytest.raises(InputError) as refused:
            next(writer.write(text, Sampling(1)))
        assert refused.value.reason == reason
    config = json.loads((path / 'config.json').read_text())
    small, _ = folder_of(tmp_path / 'small', 'mamba', vocabulary=64)
    assert config['vocab_size'] == 336
    with pytest.raises(InputError, match='tokens and the model room for 64'):
        LanguageWriter(small)

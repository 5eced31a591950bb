"""Tiny folders laid out as MaTVLM's authors released theirs: names, files, shards and settings, with random weights."""

import json
from pathlib import Path

import torch
from released_names import matvlm_tensors
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PhiConfig, PhiForCausalLM, SiglipVisionConfig, SiglipVisionModel

from m3et_ros.models.vlm.language_model import LanguageConfig

END = '<|endoftext|>'
SCHEDULE = 'STTS'
CORPUS = [
    'A chat between a curious user and an artificial intelligence assistant. USER: What is on the table? ASSISTANT: ',
    "The assistant gives helpful, detailed, and polite answers to the user's questions. Is the cup red? Yes, it is.",
]
PHI = PhiConfig(
    hidden_size=32, intermediate_size=48, num_hidden_layers=4, num_attention_heads=4, vocab_size=340, resid_pdrop=0.1
)
SIGLIP = SiglipVisionConfig(
    hidden_size=24, intermediate_size=40, num_hidden_layers=3, num_attention_heads=2, image_size=28, patch_size=7
)
HYBRID = LanguageConfig(
    d=32, schedule=SCHEDULE, heads=4, hidden=48, norm='layer', tied=False, head_bias=True, vocabulary=340
)


def write_tokenizer(folder: Path) -> None:
    """Write byte-level BPE as Phi-2 has it: vocab.json, merges.txt, runs of blanks as added tokens."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    inner.train_from_iterator(
        CORPUS, trainers.BpeTrainer(vocab_size=320, special_tokens=[END], initial_alphabet=alphabet)
    )
    inner.model.save(str(folder))
    count = inner.get_vocab_size()
    (folder / 'added_tokens.json').write_text(json.dumps({'    ': count, '  ': count + 1}))
    settings = {'add_prefix_space': False, 'tokenizer_class': 'CodeGenTokenizer'}
    settings |= {f'{name}_token': END for name in ('bos', 'eos', 'unk')}
    (folder / 'tokenizer_config.json').write_text(json.dumps(settings))


def released_tensors() -> dict[str, torch.Tensor]:
    """Random tensors under the released names: a Phi and a SigLIP of transformers, mixers in the layers of S."""
    torch.manual_seed(0)
    phi, siglip = PhiForCausalLM(PHI).state_dict(), SiglipVisionModel(SIGLIP).state_dict()
    random = matvlm_tensors(HYBRID, SIGLIP.hidden_size)
    tensors = {}
    for name in random:
        if not name.startswith('vision_tower.'):
            stored = phi.get(name.removeprefix('language_model.'))
            # Mixers as large as those of transformers' own start, so that no answer is decided by one token alone.
            tensors[name] = random[name] * 0.1 if stored is None else stored
    return tensors | {f'vision_tower._vision_tower.vision_model.{name}': value for name, value in siglip.items()}


def released_folder(folder: Path, *, dtype: torch.dtype = torch.float32, **changes) -> Path:
    """Write the folder; `changes` replace values of config.json."""
    folder.mkdir(parents=True)
    tensors = {name: value.to(dtype).contiguous() for name, value in released_tensors().items()}
    names, shards = sorted(tensors), {}
    for index in range(2):
        file = f'model-0000{index + 1}-of-00002.safetensors'
        save_file({name: tensors[name] for name in names[index::2]}, folder / file, metadata={'format': 'pt'})
        shards |= dict.fromkeys(names[index::2], file)
    (folder / 'model.safetensors.index.json').write_text(json.dumps({'metadata': {}, 'weight_map': shards}))
    config = {
        'architectures': ['TinyLlavaForConditionalGeneration'],
        'model_type': 'tinyllava',
        'llm_model_name_or_path': 'microsoft/phi-2',
        'vision_model_name_or_path': 'google/siglip-so400m-patch14-384',
        'connector_type': 'mlp2x_gelu',
        'hidden_size': 32,
        'image_aspect_ratio': 'square',
        'vision_feature_layer': -2,
        'vision_feature_select_strategy': 'patch',
        'text_config': PHI.to_dict(),
        'vision_config': SIGLIP.to_dict(),
    }
    (folder / 'config.json').write_text(json.dumps(config | changes))
    attention = [index for index, letter in enumerate(SCHEDULE) if letter == 'T']
    mamba = {'d_model': 32, 'n_layer': 4, 'attn_layers': attention, 'bidirectional': False, 'is_bias': False}
    (folder / 'mamba_config.json').write_text(json.dumps(mamba))
    write_tokenizer(folder)
    return folder

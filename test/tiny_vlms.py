"""Tiny image-text models with random weights, built and saved by transformers itself with a processor of their own."""

import json

import torch

TEMPLATE = (
    '{% for message in messages %}{{ message.role }}: {% for part in message.content %}'
    "{% if part.type == 'image' %}<image>{% else %}{{ part.text }}{% endif %}{% endfor %}\n{% endfor %}"
    '{% if add_generation_prompt %}assistant:{% endif %}'
)
QWEN_TEMPLATE = TEMPLATE.replace('<image>', '<|vision_start|><|image_pad|><|vision_end|>')
# The template of docs/vlm.md.
PALIGEMMA_TEMPLATE = (
    "{% for message in messages %}{% for part in message.content %}{% if part.type == 'image' %}<image>"
    '{% else %}answer en {{ part.text }}{% endif %}{% endfor %}{% endfor %}'
)
# Printable characters as a byte-level tokenizer writes them: blank and line break have letters of their own.
ASCII = (*map(chr, range(33, 127)), 'Ġ', 'Ċ')
SPECIAL = ('<pad>', '<s>', '</s>', '<image>', '<unk>')
QWEN_SPECIAL = ('<|vision_start|>', '<|vision_end|>', '<|image_pad|>', '<|video_pad|>')
SMOL_SPECIAL = ('<fake_token_around_image>', '<global-img>', '<end_of_utterance>')


def byte_tokenizer(*extra, letters=ASCII):
    """A tokenizer with a token for each of the letters and for each special word; others are unknown."""
    from tokenizers import Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE
    from transformers import PreTrainedTokenizerFast

    words = [*SPECIAL, *letters]
    tokenizer = Tokenizer(BPE({word: i for i, word in enumerate(words)}, [], unk_token='<unk>'))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    names = {'pad_token': '<pad>', 'bos_token': '<s>', 'eos_token': '</s>', 'unk_token': '<unk>'}
    more = [*SPECIAL[3:4], *extra]
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names, additional_special_tokens=more)


def _text(tokenizer, **more):
    ids = {f'{name}_token_id': getattr(tokenizer, f'{name}_token_id') for name in ('pad', 'bos', 'eos')}
    sizes = {'hidden_size': 32, 'intermediate_size': 48, 'num_hidden_layers': 2, 'num_attention_heads': 4}
    return (
        {'vocab_size': len(tokenizer), 'num_key_value_heads': 2, 'max_position_embeddings': 8192} | sizes | ids | more
    )


def _llava(**sizes):
    from transformers import (
        CLIPImageProcessorPil,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
    )

    tokenizer = byte_tokenizer()
    vision = CLIPVisionConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, image_size=28, patch_size=14
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=LlamaConfig(**_text(tokenizer, **sizes)),
        image_token_index=tokenizer.convert_tokens_to_ids('<image>'),
    )
    images = CLIPImageProcessorPil(size={'shortest_edge': 28}, crop_size={'height': 28, 'width': 28})
    options = {
        'processor_class': 'LlavaProcessor',
        'patch_size': 14,
        'vision_feature_select_strategy': 'default',
        'num_additional_image_tokens': 1,
    }
    return (
        LlavaForConditionalGeneration(config),
        tokenizer,
        images,
        TEMPLATE,
        {'processor_class': 'LlavaProcessor', **options},
    )


def _qwen(**sizes):
    from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration, Qwen2VLImageProcessorPil

    tokenizer = byte_tokenizer(*QWEN_SPECIAL)
    ids = dict(zip(QWEN_SPECIAL, tokenizer.convert_tokens_to_ids(list(QWEN_SPECIAL))))
    rope = {'rope_type': 'default', 'mrope_section': [2, 1, 1], 'rope_theta': 10_000.0}
    config = Qwen2VLConfig(
        text_config=_text(tokenizer, rope_parameters=rope, **sizes),
        vision_config={
            'depth': 2,
            'embed_dim': 32,
            'hidden_size': 32,
            'num_heads': 4,
            'mlp_ratio': 2,
            'patch_size': 14,
        },
        vision_start_token_id=ids['<|vision_start|>'],
        vision_end_token_id=ids['<|vision_end|>'],
        image_token_id=ids['<|image_pad|>'],
        video_token_id=ids['<|video_pad|>'],
    )
    images = Qwen2VLImageProcessorPil(size={'shortest_edge': 28 * 28, 'longest_edge': 56 * 56})
    return (
        Qwen2VLForConditionalGeneration(config),
        tokenizer,
        images,
        QWEN_TEMPLATE,
        {'processor_class': 'Qwen2VLProcessor'},
    )


def _smol(**sizes):
    from transformers import LlamaConfig, SmolVLMConfig, SmolVLMForConditionalGeneration, SmolVLMImageProcessorPil

    tokenizer = byte_tokenizer(*SMOL_SPECIAL)
    vision = {
        'hidden_size': 32,
        'intermediate_size': 48,
        'num_hidden_layers': 2,
        'num_attention_heads': 4,
        'image_size': 32,
        'patch_size': 8,
    }
    config = SmolVLMConfig(
        image_token_id=tokenizer.convert_tokens_to_ids('<image>'),
        vision_config=vision,
        text_config=LlamaConfig(**_text(tokenizer, **sizes)),
        scale_factor=2,
        pad_token_id=tokenizer.pad_token_id,
    )
    edge = {'longest_edge': 32}
    images = SmolVLMImageProcessorPil(size=edge, max_image_size=edge, do_image_splitting=False)
    options = {'processor_class': 'SmolVLMProcessor', 'image_seq_len': 4}
    return SmolVLMForConditionalGeneration(config), tokenizer, images, TEMPLATE, options


def _paligemma(**sizes):
    from transformers import (
        GemmaConfig,
        PaliGemmaConfig,
        PaliGemmaForConditionalGeneration,
        PaliGemmaProcessor,
        SiglipImageProcessorPil,
        SiglipVisionConfig,
    )

    tokenizer = byte_tokenizer()
    images = SiglipImageProcessorPil(size={'height': 28, 'width': 28}, image_seq_length=4)
    PaliGemmaProcessor(images, tokenizer)  # adds its tokens for places and masks
    vision = SiglipVisionConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, image_size=28, patch_size=14
    )
    config = PaliGemmaConfig(
        vision_config=vision,
        text_config=GemmaConfig(**_text(tokenizer, head_dim=8, **sizes)),
        image_token_index=tokenizer.convert_tokens_to_ids('<image>'),
        projection_dim=32,
        hidden_size=32,
    )
    options = {'processor_class': 'PaliGemmaProcessor'}
    return PaliGemmaForConditionalGeneration(config), tokenizer, images, PALIGEMMA_TEMPLATE, options


FAMILIES = {'llava': _llava, 'qwen2_vl': _qwen, 'smolvlm': _smol, 'paligemma': _paligemma}


def vlm_folder(folder, family='llava', *, seed=0, dtype=torch.float32, endless=False, **sizes):
    """The folder of a model with its processor, in the files that published models have.

    An endless one never stops by itself; `sizes` change the configuration of its language model.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model, tokenizer, images, template, processor = FAMILIES[family](**sizes)
    if endless:
        model.generation_config.eos_token_id = None
    model.to(dtype).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    images.save_pretrained(folder)
    (folder / 'processor_config.json').write_text(json.dumps(processor))
    (folder / 'chat_template.jinja').write_text(template)
    return folder

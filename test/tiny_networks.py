"""Folders of tiny random networks, built and written by transformers itself."""

import importlib

import torch
import transformers
from transformers import (
    BeitConfig,
    DepthAnythingConfig,
    Dinov2Config,
    DPTConfig,
    GLPNConfig,
    Mask2FormerConfig,
    MaskFormerConfig,
    OneFormerConfig,
    SegformerConfig,
    SwinConfig,
    YolosConfig,
    ZoeDepthConfig,
)

NAMES = ('background', 'table', 'cup', 'bowl')
IMAGENET = {'image_mean': [0.485, 0.456, 0.406], 'image_std': [0.229, 0.224, 0.225]}


def processor(kind, **values):
    """Return the image processor on PIL images of a kind of model."""
    module = importlib.import_module(f'transformers.models.{kind}.image_processing_pil_{kind}')
    return next(getattr(module, name) for name in module.__all__ if name.endswith('ImageProcessorPil'))(**values)


def write(folder, architecture, config, images, *, seed=0):
    """Write a network with random weights; return its folder as a string."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = getattr(transformers, architecture)(config)
        # Some heads begin with zeros, which would give every pixel the same value.
        for parameter in model.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    images.save_pretrained(folder)
    return str(folder)


def labelled(names=NAMES):
    return {'id2label': dict(enumerate(names)), 'label2id': {name: i for i, name in enumerate(names)}}


def swin():
    return SwinConfig(
        image_size=64, embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 1, 1], window_size=2,
        out_features=['stage1', 'stage2', 'stage3', 'stage4'],
    )  # fmt: skip


def depth_anything(folder, *, metric=False, seed=0):
    backbone = Dinov2Config(
        hidden_size=16, num_hidden_layers=4, num_attention_heads=2, image_size=56, patch_size=14,
        out_indices=[1, 2, 3, 4], reshape_hidden_states=False,
    )  # fmt: skip
    config = DepthAnythingConfig(
        backbone_config=backbone, reassemble_hidden_size=16, neck_hidden_sizes=[4, 4, 8, 8], fusion_hidden_size=4,
        head_hidden_size=4, depth_estimation_type='metric' if metric else 'relative', max_depth=10,
    )  # fmt: skip
    images = processor(
        'dpt', size={'height': 56, 'width': 56}, keep_aspect_ratio=True, ensure_multiple_of=14, **IMAGENET
    )
    return write(folder, 'DepthAnythingForDepthEstimation', config, images, seed=seed)


def dpt(folder, architecture='DPTForDepthEstimation'):
    config = DPTConfig(
        hidden_size=16, num_hidden_layers=4, num_attention_heads=2, intermediate_size=16, image_size=32, patch_size=16,
        backbone_out_indices=[0, 1, 2, 3], neck_hidden_sizes=[4, 4, 8, 8], fusion_hidden_size=8,
        use_auxiliary_head=False, **labelled(),
    )  # fmt: skip
    return write(folder, architecture, config, processor('dpt', size={'height': 32, 'width': 32}))


def glpn(folder):
    config = GLPNConfig(
        depths=[1, 1, 1, 1], hidden_sizes=[4, 8, 8, 8], num_attention_heads=[1, 1, 2, 2], decoder_hidden_size=8
    )
    return write(folder, 'GLPNForDepthEstimation', config, processor('glpn'))


def zoedepth(folder):
    backbone = BeitConfig(
        hidden_size=16, num_hidden_layers=4, num_attention_heads=2, intermediate_size=16, image_size=64, patch_size=16,
        out_indices=[1, 2, 3, 4], reshape_hidden_states=False, use_relative_position_bias=True,
    )  # fmt: skip
    config = ZoeDepthConfig(
        backbone_config=backbone, neck_hidden_sizes=[4, 4, 8, 8], fusion_hidden_size=8, bottleneck_features=8,
        num_relative_features=4, bin_embedding_dim=4, num_attractors=[4, 2, 2, 1],
        bin_configurations=[{'n_bins': 8, 'min_depth': 0.1, 'max_depth': 10.0, 'name': 'nyu'}],
    )  # fmt: skip
    images = processor('zoedepth', size={'height': 64, 'width': 64}, ensure_multiple_of=32)
    return write(folder, 'ZoeDepthForDepthEstimation', config, images)


def segformer(folder, *, names=NAMES, seed=0):
    config = SegformerConfig(
        depths=[1, 1, 1, 1], hidden_sizes=[4, 8, 8, 8], num_attention_heads=[1, 1, 2, 2], decoder_hidden_size=8,
        **labelled(names),
    )  # fmt: skip
    images = processor('segformer', size={'height': 64, 'width': 64})
    return write(folder, 'SegformerForSemanticSegmentation', config, images, seed=seed)


def mask2former(folder):
    config = Mask2FormerConfig(
        backbone_config=swin(), feature_size=32, mask_feature_size=32, hidden_dim=32, encoder_feedforward_dim=32,
        encoder_layers=1, decoder_layers=2, num_attention_heads=2, dim_feedforward=32, num_queries=5, **labelled(),
    )  # fmt: skip
    images = processor('mask2former', size={'shortest_edge': 64, 'longest_edge': 128}, size_divisor=32)
    return write(folder, 'Mask2FormerForUniversalSegmentation', config, images)


def maskformer(folder):
    from transformers import DetrConfig

    decoder = DetrConfig(
        d_model=32, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
        encoder_ffn_dim=32, decoder_ffn_dim=32, num_queries=5, use_timm_backbone=False, backbone_config=swin(),
    )  # fmt: skip
    config = MaskFormerConfig(
        backbone_config=swin(), decoder_config=decoder, fpn_feature_size=32, mask_feature_size=32, **labelled()
    )
    images = processor('maskformer', size={'shortest_edge': 64, 'longest_edge': 128}, size_divisor=32)
    return write(folder, 'MaskFormerForInstanceSegmentation', config, images)


def oneformer(folder):
    config = OneFormerConfig(
        backbone_config=swin(), hidden_dim=32, mask_dim=32, conv_dim=32, encoder_feedforward_dim=32, encoder_layers=1,
        decoder_layers=2, num_attention_heads=2, dim_feedforward=32, num_queries=5, text_encoder_width=32,
        text_encoder_num_layers=1, text_encoder_vocab_size=64, is_training=False, query_dec_layers=1, **labelled(),
    )  # fmt: skip
    images = processor('oneformer', size={'shortest_edge': 64, 'longest_edge': 128}, num_text=2, num_labels=len(NAMES))
    images.class_info_file = 'classes.json'
    written = write(folder, 'OneFormerForUniversalSegmentation', config, images)
    word_tokenizer().save_pretrained(folder)
    return written


def word_tokenizer():
    """Return a tokenizer that knows the words of a OneFormer's task, a row of its vocabulary each."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = ['[PAD]', '[UNK]', 'the', 'task', 'is', 'semantic']
    inner = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token='[UNK]'))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=inner, pad_token='[PAD]', unk_token='[UNK]')


def yolos(folder):
    config = YolosConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, image_size=[64, 64],
        patch_size=16, num_detection_tokens=5, **labelled(),
    )  # fmt: skip
    images = processor('yolos', size={'shortest_edge': 64, 'longest_edge': 64})
    return write(folder, 'YolosForObjectDetection', config, images)

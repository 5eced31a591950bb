"""The config of an M3ET: its sizes, schedule and switches (docs/papers.md 2.2).

Symbols: S image side in pixels, p patch side, n = (S/p)^2 tokens per image modality, d encoder width, d' decoder width.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from m3et_ros.models.config_checks import check_choice, check_divides, check_number, check_switch, check_whole

MODALITIES = ('rgb', 'depth', 'semseg', 'text')
"""Every modality, in the order in which the encoder scans their tokens; the global token follows them."""
IMAGE_MODALITIES = MODALITIES[:3]
UNLABELLED = 255
"""Class id of a segmentation pixel that belongs to no class."""

MIXER_OPTIONS = {
    'mamba1': frozenset({'expand', 'N', 'd_conv', 'dt_rank'}),
    'mamba2': frozenset({'expand', 'N', 'P', 'G', 'd_conv', 'chunk'}),
}
RANGES = {
    'image_size': (8, 1024),
    'patch': (2, 64),
    'd': (8, 8192),
    'heads': (1, 128),
    'd_decoder': (8, 4096),
    'decoder_heads': (1, 128),
    'd_gate': (1, 8192),
    'vocabulary': (6, 1_000_000),
    'text_length': (3, 512),
    'adapter_width': (0, 4096),
    'decoder_blocks': (1, 16),
    'classes': (1, UNLABELLED),
    'class_width': (1, 1024),
    'semseg_stride': (1, 32),
    'answers': (0, 100_000),
    'answer_parts': (0, 100_000),
    'look_parts': (0, 1000),
    'stages': (1, 64),
}
SWITCHES = (
    'depth_validity',
    'images_hear',
    'context_positions',
    'cross_mlp',
    'cross_attention',
    'semantic_bias',
    'gate',
    'places',
)
CHOICES = {
    'stem': ('patch', 'conv'),
    'directions': ('alternate', 'forward'),
    'depth_norm': ('image', 'fixed'),
    'mixer': tuple(MIXER_OPTIONS),
    'decoder_queries': ('tokens', 'encoded'),
}


@dataclass(frozen=True)
class M3ETConfig:
    """Sizes, schedule and switches of one M3ET.

    Raises:
        ValueError: a field has the wrong type or is out of range; the message names field, value and range.
    """

    # Name under which the model is known, for example in a checkpoint's model id.
    name: str = 'base'
    # Side S of the square rgb and depth images in pixels; a multiple of patch.
    image_size: int = 224
    # Side of a square patch in pixels; a multiple of semseg_stride.
    patch: int = 16
    # Width of the encoder; a multiple of 4 (sin-cos positions) and of heads.
    d: int = 768
    # Adapters of rgb and depth: 'patch' maps each patch alone; 'conv' is 3 x 3 convolutions of stride 2, one for each
    # halving of a patch, whose tokens also depend on half a patch around their own.
    stem: str = 'patch'
    # Channels of the colour adapter; the depth adapter has half of them. 'patch': those between two steps, each of
    # which cuts the side of a patch to a quarter, so that small things are learnt from fewer images; 0 = one linear
    # map, as published. 'conv': those of the first convolution; each later one has twice as many as the one before.
    adapter_width: int = 0
    # One letter per layer: T a Transformer block, M a Mamba layer, S a Transformer block with Mamba-2 for attention.
    schedule: str = 'TMTMTM'
    # Attention heads of the T layers, and of the mixers that replace attention in S layers.
    heads: int = 12
    # Mixer of the M layers: 'mamba1' (S6) or 'mamba2' (state-space dual).
    mixer: str = 'mamba1'
    # Keyword options of the mixer (docs/papers.md 0): expand, N, d_conv, and dt_rank or P, G, chunk.
    mixer_options: Mapping[str, int] = field(default_factory=lambda: {'N': 16})
    # 'alternate' scans every second M layer and every second S layer backward; 'forward' scans all forward.
    directions: str = 'alternate'
    # Number of parts of the schedule, as equal as possible, whose outputs the encoder returns.
    stages: int = 3
    # Width of the decoders, a multiple of decoder_heads.
    d_decoder: int = 256
    # Attention heads of the decoders.
    decoder_heads: int = 8
    # Transformer blocks of a decoder after its cross-attention.
    decoder_blocks: int = 1
    # Hidden width of the semantic gate.
    d_gate: int = 512
    # Word pieces in the text table.
    vocabulary: int = 30522
    # Longest instruction, question or answer in text tokens, with [CLS] and [SEP].
    text_length: int = 32
    # Segmentation classes; 255 means unlabelled, so at most 255.
    classes: int = 133
    # Width of the learned class embedding of a segmentation pixel.
    class_width: int = 64
    # Pixels of the rgb image per segmentation pixel along one side.
    semseg_stride: int = 4
    # Candidates of the answer head; 0 = no head.
    answers: int = 0
    # True tells words and the global token, after each T layer, where in the images its first head attends, and tells
    # the answer head where the first two nouns of the question attend.
    places: bool = False
    # Parts whose scores add up to those of the answers ('red' + 'bowl'); a checkpoint holds which parts an answer has.
    # 0 = every answer has a score of its own. Needs places.
    answer_parts: int = 0
    # The last of answer_parts, which are read from the patches attended to alone: colours.
    look_parts: int = 0
    # Standardisation of depth: 'image' by image (robust statistics), or by 'fixed' numbers, which keeps metres.
    depth_norm: str = 'image'
    # Mean of the depth in metres, 0 to 1000, for depth_norm 'fixed'.
    depth_mean: float = 0.0
    # Standard deviation of the depth in metres, 0.001 to 1000, for depth_norm 'fixed'.
    depth_std: float = 1.0
    # Depth has a second channel, 1 where a pixel was measured and 0 elsewhere, and a patch without one measured pixel
    # is no token of its values but one learned embedding. False: unknown pixels pass for the mean depth.
    depth_validity: bool = False
    # Images attend to the words of a question in the T layers (MultiMAE): each question then costs the encoder's pass
    # over the images. False: one encoding of the images serves every question.
    images_hear: bool = False
    # Modalities that have an adapter; a single one is the single-modality ablation.
    modalities: tuple[str, ...] = MODALITIES
    # Modalities that have a decoder.
    tasks: tuple[str, ...] = MODALITIES
    # Queries of the decoders at visible places: the adapter's bare 'tokens', or the outputs of the encoder there,
    # 'encoded', as in MultiMAE.
    decoder_queries: str = 'tokens'
    # Add positions, and a learned embedding of each modality, to the tokens that decoders attend to (MultiMAE).
    context_positions: bool = False
    # An MLP with a residual connection follows the cross-attention (MultiMAE).
    cross_mlp: bool = False
    # Ablation: False leaves the encoder's tokens out of the decoders (the paper's ~16 dB case).
    cross_attention: bool = True
    # Ablation: False leaves out the bias beta * s of the cross-attention, which comes from the text.
    semantic_bias: bool = True
    # Ablation: False keeps the semantic gate open (gamma = 1).
    gate: bool = True

    def __post_init__(self):
        if not isinstance(self.mixer_options, Mapping):
            raise ValueError(f'mixer_options is {self.mixer_options!r}; give a mapping of option to number')
        object.__setattr__(self, 'mixer_options', dict(self.mixer_options))
        for name in ('modalities', 'tasks'):
            if not isinstance(getattr(self, name), (list, tuple)):
                raise ValueError(f'{name} is {getattr(self, name)!r}; give a tuple out of {", ".join(MODALITIES)}')
            object.__setattr__(self, name, tuple(getattr(self, name)))
        check_whole(self, RANGES)
        check_switch(self, *SWITCHES)
        check_choice(self, CHOICES)
        check_number(self, {'depth_mean': (0, 1000), 'depth_std': (1e-3, 1000)})
        self._check_words()
        self._check_mixer()
        self._check_divisions()
        self._check_answers()

    def _check_words(self):
        # It begins the model id, which stands in logs, tables and file names.
        if not isinstance(self.name, str) or not re.fullmatch(r'[A-Za-z0-9_][\w.+-]{0,99}', self.name):
            raise ValueError(f'name is {str(self.name)[:99]!r}; give a word of letters, digits, _.+-')
        schedule = self.schedule
        if not isinstance(schedule, str) or not 1 <= len(schedule) <= 128 or set(schedule) - set('TMS'):
            raise ValueError(f'schedule is {schedule!r}; give 1 to 128 letters out of T, M and S')
        for name in ('modalities', 'tasks'):
            chosen = getattr(self, name)
            if chosen != tuple(m for m in MODALITIES if m in chosen):
                raise ValueError(f'{name} is {chosen!r}; give some of {", ".join(MODALITIES)}, in that order')
        if not self.modalities:
            raise ValueError(f'modalities is empty; give at least one of {", ".join(MODALITIES)}')
        if self.images_hear and ('text' not in self.modalities or 'T' not in schedule):
            raise ValueError(
                f'images_hear is true with schedule {schedule!r} and modalities {", ".join(self.modalities)}; give a '
                'schedule with a T layer, in which images attend to words, and the modality text'
            )
        if 'text' in self.tasks and 'text' not in self.modalities:
            raise ValueError('tasks holds text but modalities does not; the text decoder needs the word table')

    def _check_mixer(self):
        known = MIXER_OPTIONS[self.mixer]
        for name, value in self.mixer_options.items():
            if name not in known:
                raise ValueError(f'mixer_options holds {name!r}; {self.mixer} knows {", ".join(sorted(known))}')
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 4096:
                raise ValueError(f'mixer_options[{name!r}] is {value!r}; give a whole number from 1 to 4096')
        if self.mixer == 'mamba2':
            P = self.mixer_options.get('P', 64)
            check_divides(self, "mixer_options['P']", self.d_inner, 'expand * d', value=P)

    def _check_answers(self):
        if self.places and 'T' not in self.schedule:
            raise ValueError(f'places is true and schedule {self.schedule!r}; give a schedule with a T layer')
        if self.answer_parts and not (self.places and self.answers):
            raise ValueError(f'answer_parts is {self.answer_parts}; give places = true and answers above 0, or 0 parts')
        if self.look_parts and self.look_parts >= self.answer_parts:
            raise ValueError(f'look_parts is {self.look_parts}; give fewer than answer_parts = {self.answer_parts}')

    def _check_divisions(self):
        for name, divisor in (
            ('image_size', 'patch'),
            ('patch', 'semseg_stride'),
            ('d', 'heads'),
            ('d_decoder', 'decoder_heads'),
        ):
            value, by = getattr(self, name), getattr(self, divisor)
            if value % by:
                raise ValueError(f'{name} is {value}; give a multiple of {divisor} = {by}')
        if self.stem == 'conv' and (not self.adapter_width or self.patch & (self.patch - 1)):
            raise ValueError(
                f"stem is 'conv' with adapter_width {self.adapter_width} and patch {self.patch}; give an adapter_width "
                'above 0, and a patch that is a power of two, because each convolution halves the image'
            )
        if (self.stem == 'patch' and self.adapter_width and self.patch % 4) or self.adapter_width % 2:
            raise ValueError(
                f'adapter_width is {self.adapter_width} and patch {self.patch}; give an even number, and '
                'a patch that is a multiple of 4'
            )
        if self.d % 4:
            raise ValueError(f'd is {self.d}; give a multiple of 4, which the sin-cos positions need')
        if self.stages > len(self.schedule):
            raise ValueError(f'stages is {self.stages}; give at most the {len(self.schedule)} layers of schedule')

    @property
    def d_inner(self) -> int:
        """Return the channels inside a mixer, expand * d."""
        return self.mixer_options.get('expand', 2) * self.d

    @property
    def grid(self) -> int:
        """Return the number of patches along one side of an image."""
        return self.image_size // self.patch

    @property
    def image_tokens(self) -> int:
        """Return the tokens n of one image modality."""
        return self.grid**2

    @property
    def semseg_size(self) -> int:
        """Return the side of the segmentation map in its own pixels."""
        return self.image_size // self.semseg_stride

    @property
    def semseg_patch(self) -> int:
        """Return the side of a segmentation patch in its own pixels."""
        return self.patch // self.semseg_stride

    @property
    def image_channels(self) -> dict[str, int]:
        """Return the channels of the images rgb and depth as the model takes them."""
        return {'rgb': 3, 'depth': 2 if self.depth_validity else 1}

    def token_count(self, modality: str) -> int:
        """Return the largest number of tokens of a modality, with pads of text."""
        return self.text_length if modality == 'text' else self.image_tokens

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as values that JSON can hold."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return values | {
            'mixer_options': dict(self.mixer_options),
            'modalities': list(self.modalities),
            'tasks': list(self.tasks),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> 'M3ETConfig':
        """Rebuild a config from to_dict's result.

        Raises:
            ValueError: a key is unknown, a value has the wrong type or is out of range; the message names it.
        """
        if not isinstance(values, Mapping):
            raise ValueError(f'the model config is {type(values).__name__}; give a mapping of field to value')
        known = {f.name: f for f in fields(cls)}
        unknown = sorted(set(values) - set(known), key=str)
        if unknown:
            raise ValueError(f'the model config holds {unknown[0]!r}; the fields are {", ".join(known)}')
        return cls(**values)

"""MambaVL's questions answered in words, in training alone (docs/papers.md 3: the optional question-answering loss).

    z = mean M_v(video) + mean M_t(question)
    [z | words of the answer] -> x + Mamba-1(x) -> LayerNorm -> Linear -> logits of the next word

The answer to the question about the object is the noun, to that about the action the verb. The paper's summary names
such a loss and its code has none, so the decoder is ours. The head without it is the same.

Symbols: B batch, T text tokens of an answer, d width, W words in the table, C classes.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from m3et_ros.layers.mamba import Mamba1
from m3et_ros.models.actions.mambavl import MambaVL, MambaVLConfig


class WrittenAnswers(NamedTuple):
    """Text tokens of the answer of every class, [CLS] words [SEP]: ids (C, T) int64 and mask (C, T) bool."""

    ids: Tensor
    mask: Tensor


class AnsweringMambaVL(nn.Module):
    """A head with a decoder that writes the verb and the noun of a clip.

    Args:
        head: learns with the decoder.
        verbs: the words of every verb.
        nouns: the words of every noun.
    """

    def __init__(self, head: MambaVL, verbs: WrittenAnswers, nouns: WrittenAnswers):
        super().__init__()
        d = head.config.d
        self.head, self.mixer, self.norm = head, Mamba1(d=d, N=head.config.N), nn.LayerNorm(d)
        self.output = nn.Linear(d, head.config.vocabulary)
        for name, answers in (('verb', verbs), ('noun', nouns)):
            self.register_buffer(f'{name}_ids', answers.ids, persistent=False)
            self.register_buffer(f'{name}_mask', answers.mask, persistent=False)

    @property
    def config(self) -> MambaVLConfig:
        """Sizes of the head."""
        return self.head.config

    def forward(self, video: Tensor, questions: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the sums z of clips, by 'verb' and 'noun', (B, d).

        Args:
            video: frames (B, Lv, d_in) in the order of time.
            questions: noun_ids, noun_mask, verb_ids and verb_mask, (B, Lq) each.
        """
        features = self.head.features(video)[:, -1]
        return {
            name: features + self.head.question_features(questions[f'{name}_ids'], questions[f'{name}_mask'])
            for name in ('verb', 'noun')
        }

    def answer_loss(self, name: str, z: Tensor, classes: Tensor) -> Tensor:
        """Return the mean cross-entropy of the words of answers, in nats.

        Args:
            name: 'verb' or 'noun'.
            z: sums of clips, (B, d).
            classes: right class of each clip, (B,) int64.
        """
        ids, mask = (self.get_buffer(f'{name}_{part}')[classes] for part in ('ids', 'mask'))
        words = self.head.txt_proj(self.head.words(ids[:, 1:-1]))
        x = torch.cat([z[:, None].to(words.dtype), words], 1)
        logits = self.output(self.norm(x + self.mixer(x)))
        return nn.functional.cross_entropy(logits[mask[:, 1:]].float(), ids[:, 1:][mask[:, 1:]])

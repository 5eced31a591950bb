"""MambaVL on clips of EPIC-KITCHENS-100, as published: verb and noun of an action from features and two questions.

See docs/papers.md 3. A sample is a segment: the features of what is observed of it, and its pair of questions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from m3et_ros.data.action_questions import Pair, spoken_noun, spoken_verb
from m3et_ros.data.epic.annotations import Segment
from m3et_ros.data.epic.class_lists import Classes
from m3et_ros.data.epic.clips import LENGTH, Clips, CollateClips
from m3et_ros.data.tokenizer import Tokenizer
from m3et_ros.models.actions.answering import AnsweringMambaVL, WrittenAnswers
from m3et_ros.models.actions.mambavl import PAPER, MambaVL, MambaVLConfig
from m3et_ros.models.config_checks import check_number
from m3et_ros.training.loop import Outcome, train
from m3et_ros.training.recipe import Recipe, check_share, seeded_by
from m3et_ros.training.run_state import WHOLE_RUN, TrainingSession

VOCABULARY = 4096
"""Most pieces of a tokenizer that is trained on the questions."""


@dataclass(frozen=True)
class Recognise(Recipe):
    """Classify verb and noun of clips, recognised or anticipated."""

    samples: int = 400_000
    batch: int = 64
    lr: float = 2e-4
    weight_decay: float = 0.05
    # Label smoothing of the targets.
    smoothing: float = 0.1
    # Concentration of the Beta draw by which two clips and their labels are mixed, as published; 0 mixes none.
    mixup: float = 0.0
    # Weight of the loss of answers in words, which the summary of the paper names; 0 = without, as in its code.
    qa: float = 0.0

    def __post_init__(self):
        super().__post_init__()
        check_share(self, 'smoothing', one=False)
        check_number(self, {'mixup': (0, 100), 'qa': (0, 100)})

    def losses(self, model: nn.Module, batch: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Return the cross-entropies of verb and noun, with smoothed and perhaps mixed targets, and those of answers.

        Args:
            model: MambaVL, or AnsweringMambaVL, whose loss of answers is then added.
            batch: from CollateClips.
            generator: of the mixing.
        """
        video, label = batch['video'], batch['label']
        share = 1.0
        if self.mixup:
            rng = np.random.default_rng(int(torch.randint(2**62, (1,), generator=generator)))
            share = float(rng.beta(self.mixup, self.mixup))
            video = share * video + (1 - share) * video.flip(0)
        found = {}
        if isinstance(model, AnsweringMambaVL):
            with seeded_by(generator):
                sums = model(video, batch)
            logits = model.head.verb_head(sums['verb']), model.head.noun_head(sums['noun'])
            for place, name in enumerate(('verb', 'noun')):
                own, other = (
                    model.answer_loss(name, sums[name], target) for target in (label[:, place], label.flip(0)[:, place])
                )
                found[f'{name}_words'] = self.qa * (share * own + (1 - share) * other)
        else:
            with seeded_by(generator):
                logits = model(video, batch['noun_ids'], batch['verb_ids'], batch['noun_mask'], batch['verb_mask'])
        for place, name in enumerate(('verb', 'noun')):
            own, other = (
                F.cross_entropy(logits[place], target, label_smoothing=self.smoothing)
                for target in (label[:, place], label.flip(0)[:, place])
            )
            found[name] = share * own + (1 - share) * other
        return found


def clip_tokenizer(questions: Mapping[str, Pair], classes: Classes | None = None) -> Tokenizer:
    """Train a tokenizer on questions, and on the names of the classes where answers in words are learnt."""
    texts = [text for pair in questions.values() for text in pair]
    if classes is not None:
        texts += [*map(spoken_verb, classes.verbs), *map(spoken_noun, classes.nouns)]
    return Tokenizer.train(texts, vocabulary=VOCABULARY)


def answering(head: MambaVL, tokenizer: Tokenizer, classes: Classes, seed: int) -> AnsweringMambaVL:
    """Return a head with a decoder of random weights that writes the names of verbs and nouns."""
    written = []
    for names in (map(spoken_verb, classes.verbs), map(spoken_noun, classes.nouns)):
        ids, mask = tokenizer.encode(list(names), LENGTH)
        longest = int(mask.sum(1).max())
        written.append(WrittenAnswers(ids[:, :longest], mask[:, :longest]))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AnsweringMambaVL(head, *written)


def clip_head(width: int, tokenizer: Tokenizer, classes: Classes, seed: int, *, shared: bool = True) -> MambaVL:
    """Return the published head with random weights, as wide as the features.

    Args:
        width: width of the features.
        tokenizer: tokenizer of the questions.
        classes: verbs and nouns.
        seed: seed of the weights.
        shared: False gives the question a matrix A of its own.
    """
    config = MambaVLConfig(
        **PAPER,
        d_in=width,
        d=width,
        d_word=width,
        vocabulary=tokenizer.vocabulary,
        positions=LENGTH,
        dropout=0.1,
        pads=True,
        verbs=len(classes.verbs),
        nouns=len(classes.nouns),
        shared_A=shared,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return MambaVL(config)


def known_segments(segments: Sequence[Segment], classes: Classes) -> list[Segment]:
    """Return the segments whose verb and noun are in the lists; others cannot be learnt from."""
    return [s for s in segments if 0 <= s.verb < len(classes.verbs) and 0 <= s.noun < len(classes.nouns)]


def train_clips(
    head: MambaVL,
    data: Clips,
    tokenizer: Tokenizer,
    folder: Path,
    *,
    recipe: Recognise = Recognise(),
    classes: Classes | None = None,
    seed: int = 0,
    session: TrainingSession = WHOLE_RUN,
) -> tuple[Outcome, nn.Module, bool]:
    """Train a head in place for one session; its class priors become the frequencies of the training segments.

    Args:
        head: as from clip_head.
        data: clips to learn from.
        tokenizer: tokenizer of the questions.
        folder: folder of state and log.
        recipe: recipe of the run.
        classes: verbs and nouns, which are written where the recipe has a loss of answers.
        seed: seed of the order and of every random choice.
        session: duration, logging, and whether to resume.

    Returns:
        As loop.train; the head comes without the decoder of answers.

    Raises:
        InputError: as loop.train and FeatureFolder.clip.
        ValueError: the recipe has a loss of answers and there are no classes.
    """
    if recipe.qa and classes is None:
        raise ValueError(f'qa is {recipe.qa}, and no classes are given whose names could be written; give classes')
    for place, prior in ((0, head.verb_prior), (1, head.noun_prior)):
        counts = np.bincount([(s.verb, s.noun)[place] for s in data.segments], minlength=len(prior)) + 0.5
        prior.copy_(torch.from_numpy(np.log(counts / counts.sum())))
    model = answering(head, tokenizer, classes, seed) if recipe.qa and classes is not None else head
    outcome, trained, main = train(recipe, model, data, CollateClips(tokenizer), folder, seed=seed, session=session)
    return outcome, trained.head if isinstance(trained, AnsweringMambaVL) else trained, main

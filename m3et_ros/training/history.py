"""Recipe for models.history: cross-entropy of the next noun, and of the verb with and without it (papers.md 3, 9.2)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from m3et_ros.data.epic_history import HistoryWindows
from m3et_ros.models.history import HistoryModel
from m3et_ros.training.loop import Outcome, Sitting, Trainer
from m3et_ros.training.plan import Plan


@dataclass(frozen=True)
class Anticipate(Plan):
    """Learn what comes next from the labels of what came before. A sample is a window of a video."""

    samples: int = 6_400
    batch: int = 4
    lr: float = 2e-3
    # Label smoothing of nouns: without it the model learns the nouns of the training kitchens by heart.
    smooth_noun: float = 0.1
    # Label smoothing of verbs; more would hide the rare ones when scores are divided by the prior.
    smooth_verb: float = 0.02
    # Share of the past actions whose verb, and of those whose noun, is hidden from the scan.
    hide: float = 0.1
    # Share of the past actions whose pair is hidden, so that pairs that were never learnt do no harm.
    hide_pair: float = 0.3

    def __post_init__(self):
        super().__post_init__()
        for name in ('smooth_noun', 'smooth_verb', 'hide', 'hide_pair'):
            if not 0 <= (value := getattr(self, name)) < 1:
                raise ValueError(f'{name} is {value!r}; give a share from 0 to less than 1')

    def losses(self, model: nn.Module, batch: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Return noun, verb_of_noun and verb: cross-entropies over the targets whose classes are known."""
        seed = int(torch.randint(2 ** 62, (), generator=generator))
        batch = dict(batch) | self._hidden(model, batch, generator)
        with torch.random.fork_rng():
            torch.manual_seed(seed)  # of dropout, so that a run that goes on repeats what it would have done
            seen = model.see(batch)
            known = (batch['noun'] >= 0) & (batch['verb'] >= 0)
            noun, verb = batch['noun'].where(known, -1), batch['verb'].where(known, -1)
            of_noun = model.verbs_of(seen, noun.clamp(min=0))
            return {'noun': _cross_entropy(model.nouns(seen), noun, self.smooth_noun),
                    'verb_of_noun': _cross_entropy(of_noun, verb, self.smooth_verb),
                    'verb': _cross_entropy(model.verbs(seen), verb, self.smooth_verb)}

    def _hidden(self, model: nn.Module, batch: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Past actions, some of them unknown."""
        found = {}
        for name, size, share in (('verbs', model.config.verbs, self.hide), ('nouns', model.config.nouns, self.hide),
                                  ('pairs', model.config.pairs, self.hide_pair)):
            drawn = torch.rand(batch[name].shape, generator=generator) < share
            found[name] = batch[name].masked_fill(drawn.to(batch[name].device), size)
        return found


def run(recipe: Anticipate, model: HistoryModel, data: HistoryWindows, *, folder: str | Path, seed: int = 0,
        sitting: Sitting = Sitting(), tell: Callable[[dict], None] = lambda entry: None,
        stop: Callable[[], bool] = lambda: False) -> tuple[Outcome, nn.Module, bool]:
    """Train a model in place, for one sitting; arguments, result and errors as in training.recipes.run."""
    trainer = Trainer(recipe, model, data, data.collate, Path(folder), seed=seed, sitting=sitting)
    outcome = trainer.run(tell, stop)
    return outcome, trainer.delivered, trainer.accelerator.is_main_process


def _cross_entropy(logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """Mean over the targets with a label from 0; 0 where there are none."""
    total = F.cross_entropy(logits.float(), labels, ignore_index=-1, reduction='sum', label_smoothing=smoothing)
    return total / (labels >= 0).sum().clamp(min=1)

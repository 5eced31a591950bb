"""Distillation of a Transformer into its hybrid: three losses and what feeds them (MaTVLM; docs/papers.md, section 6).

    L = w_layer sum_l |S_l(h_T) - T_l(h_T)| + w_prob tau^2 KL(teacher || student) + w_ce next-token cross-entropy
S_l is a replaced layer, T_l the teacher's, both fed with what the teacher's layer l got.

Symbols: B batch, L tokens of the stack, T words, V vocabulary or answers, d width.
Arithmetic is float32 whatever autocast made. Reductions: 'token' is the mean over what counts, so that neither length
nor batch scale it; 'released' is the published one, the Frobenius norm of a whole tensor and a sum divided by batch.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from m3et_ros.layers.causal import repeated
from m3et_ros.layers.mamba import AttentionMamba2
from m3et_ros.models.config_checks import check_choice, check_number, check_switch
from m3et_ros.models.m3et.model import M3ET
from m3et_ros.models.vlm.model import VisualLanguageModel

PROB_KINDS = ('kl', 'reverse', 'js', 'l2', 'hard')
LAYER_KINDS = ('l2', 'kl')
REDUCTIONS = ('token', 'released')
IGNORED = -100
"""Label of a word that the cross-entropy leaves out."""


@dataclass(frozen=True)
class DistilConfig:
    """Weights, kinds and reductions of the losses; weights and kinds as released.

    Raises:
        ValueError: a field is out of range; the message names field, value and range.
    """

    # Weight of L_layer, from 0; 0 does not compute it.
    layer: float = 1.0
    # Weight of L_prob, from 0.
    prob: float = 1.0
    # Weight of L_ce, from 0; needs labels.
    ce: float = 0.0
    # Both sides' logits are divided by it in L_prob, and the loss multiplied by its square; 0.001 to 100.
    temperature: float = 1.0
    # 'kl' (teacher || student), 'reverse', 'js' (Jensen-Shannon), 'l2' of logits, 'hard' (the teacher's best word).
    prob_kind: str = 'kl'
    # 'l2', or 'kl' of hidden states after a softmax.
    layer_kind: str = 'l2'
    # 'token' or 'released', of L_layer and L_prob.
    reduction: str = 'token'
    # True counts pads in L_layer, as released; what attention puts there means nothing.
    pads: bool = False

    def __post_init__(self):
        check_number(self, {'layer': (0, 1e6), 'prob': (0, 1e6), 'ce': (0, 1e6), 'temperature': (1e-3, 100)})
        check_choice(self, {'prob_kind': PROB_KINDS, 'layer_kind': LAYER_KINDS, 'reduction': REDUCTIONS})
        check_switch(self, 'pads')
        if not self.layer + self.prob + self.ce:
            raise ValueError('layer, prob and ce are all 0; give one of them a weight')


class Call(NamedTuple):
    """One call of a teacher's layer.

    x: what it was fed, (B, L, d).
    mask: (B, L) bool, False for pads; None = no pads.
    state: what went before, as the layer was given it; None = nothing.
    y: what it gave, (B, L, d).
    after: the state that it gave; None where none was asked for.
    """

    x: Tensor
    mask: Tensor | None
    state: Any
    y: Tensor
    after: Any


class LayerRecorder:
    """Writes down, while it is entered, every call of some layers: `calls` by index, in their order."""

    def __init__(self, layers: Sequence[nn.Module], places: Sequence[int]):
        self.layers = {place: layers[place] for place in places}
        self.calls: dict[int, list[Call]] = {place: [] for place in places}
        self._hooks: list[Any] = []

    def __enter__(self) -> 'LayerRecorder':
        for place, layer in self.layers.items():
            calls = self.calls[place]

            def note(_layer, inputs, options, output, calls=calls):
                y, after = output if isinstance(output, tuple) else (output, None)
                calls.append(Call(inputs[0].detach(), options.get('mask'), options.get('state'), y.detach(), after))

            self._hooks.append(layer.register_forward_hook(note, with_kwargs=True))
        return self

    def __exit__(self, *_error) -> None:
        while self._hooks:
            self._hooks.pop().remove()


def distil(
    teacher: nn.Module,
    student: nn.Module,
    run: Callable[[nn.Module], Tensor],
    *,
    config: DistilConfig,
    labels: Tensor | None = None,
    counted: Tensor | None = None,
    places: Sequence[int] | None = None,
) -> dict[str, Tensor]:
    """One step's losses: the teacher runs once, without gradients, the student once and its replaced layers twice.

    Args:
        teacher: a VisualLanguageModel or M3ET, in eval mode.
        student: what models.matvlm made of it.
        run: runs either on the batch and returns logits, (B, T, V) of words or (B, V) of answers.
        config: weights and kinds.
        labels: (B, T) int64 words, -100 where the cross-entropy does not count; or (B,) int64 right answers.
        counted: bool, the shape of the logits less V, where L_prob counts; None = everywhere.
        places: layers of L_layer; None = those with an attention-shaped mixer in the student.

    Returns:
        'total', and unweighted those of 'layer', 'prob' and 'ce' whose weight is not 0.

    Raises:
        ValueError: ce without labels, or nothing was replaced.
    """
    found: dict[str, Tensor] = {}
    layers = stack(student)
    if config.layer:
        places = _replaced_places(layers) if places is None else places
    with torch.no_grad(), LayerRecorder(stack(teacher), places or ()) as watch:
        wanted = run(teacher)
    if config.layer:
        found['layer'] = teacher_fed_loss(
            layers, watch.calls, kind=config.layer_kind, reduction=config.reduction, pads=config.pads
        )
    if config.prob or config.ce:
        logits = run(student)
    if config.prob:
        found['prob'] = prob_loss(
            logits,
            wanted,
            counted=counted,
            kind=config.prob_kind,
            temperature=config.temperature,
            reduction=config.reduction,
        )
    if config.ce:
        if labels is None:
            raise ValueError('ce has a weight but there are no labels; give labels, or ce = 0')
        found['ce'] = ce_loss(logits, labels)
    total = sum(getattr(config, name) * loss for name, loss in found.items())
    return {'total': total, **found}


def teacher_fed_loss(
    layers: Sequence[nn.Module],
    calls: Mapping[int, Sequence[Call]],
    *,
    kind: str = 'l2',
    reduction: str = 'token',
    pads: bool = False,
) -> Tensor:
    """L_layer: the sum over layers and calls of how far a layer is from the teacher's, fed with the teacher's input.

    A call that goes on from an earlier one's state goes on from this layer's own state after that call.
    """
    losses = []
    for place, noted in calls.items():
        states: dict[int, Any] = {}
        for call in noted:
            before = None if call.state is None else _before(call, states)
            y = layers[place](call.x, mask=call.mask, state=before, return_state=call.after is not None)
            if call.after is not None:
                y, states[id(call.after)] = y
            losses.append(layer_loss(y, call.y, counted=None if pads else call.mask, kind=kind, reduction=reduction))
    return torch.stack(losses).sum()


def _before(call: Call, states: Mapping[int, Any]) -> Any:
    """This layer's own state for a call; one that the teacher's caller repeated for several texts is repeated, too."""
    found = states.get(id(call.state))
    if found is None:  # of the calls before only the newest can have been repeated
        found = list(states.values())[-1]
        found = repeated(found, len(call.x) // len(found[0]))
    return found


def layer_loss(
    student: Tensor, teacher: Tensor, *, counted: Tensor | None = None, kind: str = 'l2', reduction: str = 'token'
) -> Tensor:
    """Distance of hidden states (B, L, d) where counted (B, L) bool is True; its gradient is 0 at 0."""
    student, teacher = student.float(), teacher.float()
    if kind == 'kl':
        return _reduced(_divergence(teacher.log_softmax(-1), student.log_softmax(-1)), counted, reduction)
    squares = (student - teacher).square().sum(-1)
    if reduction == 'token':
        return _reduced(_root(squares), counted, reduction)
    return _root(squares.sum() if counted is None else squares.masked_fill(~counted, 0).sum())


def prob_loss(
    student: Tensor,
    teacher: Tensor,
    *,
    counted: Tensor | None = None,
    kind: str = 'kl',
    temperature: float = 1.0,
    reduction: str = 'token',
) -> Tensor:
    """L_prob of logits (..., V) where counted (...) bool is True, times temperature squared."""
    student, teacher = student.float() / temperature, teacher.float() / temperature
    if kind == 'l2':
        errors = (student - teacher).square().sum(-1)
    elif kind == 'hard':
        errors = -student.log_softmax(-1).gather(-1, teacher.argmax(-1, keepdim=True))[..., 0]
    else:
        s, t = student.log_softmax(-1), teacher.log_softmax(-1)
        if kind == 'js':
            middle = torch.logaddexp(s, t) - torch.log(torch.tensor(2.0))
            errors = (_divergence(t, middle) + _divergence(s, middle)) / 2
        else:
            errors = _divergence(t, s) if kind == 'kl' else _divergence(s, t)
    return temperature**2 * _reduced(errors, counted, reduction)


def ce_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of the next word, (B, T, V) against (B, T) with -100 left out; or of answers, (B, V) against (B,).

    Logits at word t speak of word t + 1. 0 where no word counts.
    """
    if logits.dim() == 3:
        logits, labels = logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten()
    total = F.cross_entropy(logits.float(), labels, ignore_index=IGNORED, reduction='sum')
    return total / (labels != IGNORED).sum().clamp(min=1)


def stack(model: nn.Module) -> nn.ModuleList:
    """The layers of which some are replaced.

    Raises:
        ValueError: neither a VisualLanguageModel nor an M3ET.
    """
    if isinstance(model, VisualLanguageModel):
        return model.language.layers
    if isinstance(model, M3ET):
        return model.encoder.layers
    raise ValueError(f'the model is a {type(model).__name__}; give a VisualLanguageModel or an M3ET')


def _replaced_places(layers: Sequence[nn.Module]) -> list[int]:
    places = [place for place, layer in enumerate(layers) if isinstance(getattr(layer, 'mixer', None), AttentionMamba2)]
    if not places:
        raise ValueError('the student has no replaced layer; make it with models.matvlm, or give layer = 0')
    return places


def _divergence(p: Tensor, q: Tensor) -> Tensor:
    """KL(p || q) of log probabilities (..., V): (...)."""
    return F.kl_div(q, p, reduction='none', log_target=True).sum(-1)


def _root(squares: Tensor) -> Tensor:
    """Square root with a gradient of 0 at 0."""
    positive = squares > 0
    return torch.where(positive, squares, 1).sqrt() * positive


def _reduced(errors: Tensor, counted: Tensor | None, reduction: str) -> Tensor:
    """Mean of (B, ...) errors over what counts, or their sum divided by the batch."""
    counted = torch.ones_like(errors, dtype=torch.bool) if counted is None else counted
    total = errors.masked_fill(~counted, 0).sum()
    return total / len(errors) if reduction == 'released' else total / counted.sum().clamp(min=1)

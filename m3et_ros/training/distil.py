"""Distillation of a Transformer into its hybrid: three losses and their inputs (MaTVLM; docs/papers.md 6).

    L = w_layer sum_l |S_l(h_T) - T_l(h_T)| + w_prob tau^2 KL(teacher || student) + w_ce next-token cross-entropy

S_l is a replaced layer and T_l the teacher's layer; both get the input of the teacher's layer l.

Symbols: B batch, L tokens of the stack, T words, V vocabulary or answers, d width.
Arithmetic is float32 even under autocast. The reduction 'token' is the mean over the counted elements, independent of
length and batch. 'released' is the published code's, kind by kind:
    layers 'l2'         Frobenius norm of the whole tensor
    layers 'kl'         sum divided by the batch
    'kl', 'reverse'     sum divided by the batch
    'js'                the same, of KL(m || teacher) and KL(m || student) with the mean m of the two; Jensen-Shannon
                        has them the other way round, as 'token' computes them
    'l2', 'hard'        Frobenius norm of all logits, and mean over words; both without the temperature
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
"""Label of a word that the cross-entropy ignores."""


@dataclass(frozen=True)
class DistilConfig:
    """Weights, kinds and reductions of the losses; the defaults of weights and kinds are the published ones.

    Raises:
        ValueError: a field is out of range; the message names field, value and range.
    """

    # Weight of L_layer, from 0; at 0 it is not computed.
    layer: float = 1.0
    # Weight of L_prob, from 0.
    prob: float = 1.0
    # Weight of L_ce, from 0; needs labels.
    ce: float = 0.0
    # Divides the logits of both sides in L_prob; its square multiplies the loss. 0.001 to 100.
    temperature: float = 1.0
    # 'kl' (teacher || student), 'reverse', 'js' (Jensen-Shannon), 'l2' of logits, 'hard' (teacher's likeliest word).
    prob_kind: str = 'kl'
    # 'l2', or 'kl' of hidden states after a softmax.
    layer_kind: str = 'l2'
    # 'token' or 'released', of L_layer and L_prob.
    reduction: str = 'token'
    # True counts pads in L_layer, as the published code does; attention's output there has no meaning.
    pads: bool = False

    def __post_init__(self):
        check_number(self, {'layer': (0, 1e6), 'prob': (0, 1e6), 'ce': (0, 1e6), 'temperature': (1e-3, 100)})
        check_choice(self, {'prob_kind': PROB_KINDS, 'layer_kind': LAYER_KINDS, 'reduction': REDUCTIONS})
        check_switch(self, 'pads')
        if not self.layer + self.prob + self.ce:
            raise ValueError('layer, prob and ce are all 0; give one of them a weight')


class Call(NamedTuple):
    """One call of a teacher's layer.

    Attributes:
        x: its input, (B, L, d).
        mask: (B, L) bool, False for pads; None = no pads.
        state: the state before, as passed to the layer; None = empty.
        y: its output, (B, L, d).
        after: the state that it returned; None if none was requested.
    """

    x: Tensor
    mask: Tensor | None
    state: Any
    y: Tensor
    after: Any


class LayerRecorder:
    """Context manager that records every call of some layers: `calls` by layer index, in order."""

    def __init__(self, layers: Sequence[nn.Module], indices: Sequence[int]):
        self.layers = {index: layers[index] for index in indices}
        self.calls: dict[int, list[Call]] = {index: [] for index in indices}
        self._hooks: list[Any] = []

    def __enter__(self) -> 'LayerRecorder':
        for index, layer in self.layers.items():
            calls = self.calls[index]

            def record(_layer, inputs, options, output, calls=calls):
                y, after = output if isinstance(output, tuple) else (output, None)
                calls.append(Call(inputs[0].detach(), options.get('mask'), options.get('state'), y.detach(), after))

            self._hooks.append(layer.register_forward_hook(record, with_kwargs=True))
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
    layers: Sequence[int] | None = None,
) -> dict[str, Tensor]:
    """Return the losses of one step.

    The teacher runs once, without gradients; the student runs once, and its replaced layers a second time.

    Args:
        teacher: a VisualLanguageModel or M3ET, in eval mode.
        student: the hybrid that models.vlm.matvlm made of it.
        run: runs either on the batch and returns logits, (B, T, V) of words or (B, V) of answers.
        config: weights and kinds.
        labels: (B, T) int64 words, -100 where the cross-entropy does not count; or (B,) int64 right answers.
        counted: bool, the shape of the logits without V, True where L_prob counts; None = everywhere.
        layers: indices of the layers of L_layer; None = the replaced layers of the student.

    Returns:
        'total', and each of 'layer', 'prob' and 'ce' with a weight other than 0, unweighted.

    Raises:
        ValueError: ce has a weight but there are no labels, or no layer was replaced.
    """
    found: dict[str, Tensor] = {}
    student_layers = stack(student)
    if config.layer and layers is None:
        mixers = [getattr(layer, 'mixer', None) for layer in student_layers]
        layers = [index for index, mixer in enumerate(mixers) if isinstance(mixer, AttentionMamba2)]
        if not layers:
            raise ValueError('the student has no replaced layer; build it with models.vlm.matvlm, or give layer = 0')
    with torch.no_grad(), LayerRecorder(stack(teacher), layers or ()) as recorder:
        target = run(teacher)
    if config.layer:
        found['layer'] = teacher_fed_loss(
            student_layers, recorder.calls, kind=config.layer_kind, reduction=config.reduction, pads=config.pads
        )
    if config.prob or config.ce:
        logits = run(student)
    if config.prob:
        found['prob'] = prob_loss(
            logits,
            target,
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
    """Return L_layer: the distance between student and teacher layers on the teacher's input, summed over all calls.

    A call that continues from the state of an earlier call continues from the student layer's own state after it.
    """
    losses = []
    for index, recorded in calls.items():
        states: dict[int, Any] = {}
        for call in recorded:
            before = None if call.state is None else _state_before(call, states)
            y = layers[index](call.x, mask=call.mask, state=before, return_state=call.after is not None)
            if call.after is not None:
                y, states[id(call.after)] = y
            losses.append(layer_loss(y, call.y, counted=None if pads else call.mask, kind=kind, reduction=reduction))
    return torch.stack(losses).sum()


def _state_before(call: Call, states: Mapping[int, Any]) -> Any:
    """Return the layer's own state before a call, repeated if the teacher's state was repeated for several texts."""
    found = states.get(id(call.state))
    if found is None:  # only the state after the newest call can have been repeated
        found = list(states.values())[-1]
        found = repeated(found, len(call.x) // len(found[0]))
    return found


def layer_loss(
    student: Tensor, teacher: Tensor, *, counted: Tensor | None = None, kind: str = 'l2', reduction: str = 'token'
) -> Tensor:
    """Return the distance of hidden states (B, L, d) where counted (B, L) is True; its gradient is 0 at 0."""
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
    """Return L_prob of logits (..., V) where counted (...) is True, times the square of the temperature."""
    released = reduction == 'released'
    if released and kind in ('l2', 'hard'):  # the published code leaves the temperature out
        temperature = 1.0
    student, teacher = student.float() / temperature, teacher.float() / temperature
    if kind == 'l2':
        errors = (student - teacher).square().sum(-1)
    elif kind == 'hard':
        errors = -student.log_softmax(-1).gather(-1, teacher.argmax(-1, keepdim=True))[..., 0]
    else:
        s, t = student.log_softmax(-1), teacher.log_softmax(-1)
        if kind == 'js':
            middle = torch.logaddexp(s, t) - torch.log(torch.tensor(2.0))
            if released:
                errors = (_divergence(middle, t) + _divergence(middle, s)) / 2
            else:
                errors = (_divergence(t, middle) + _divergence(s, middle)) / 2
        else:
            errors = _divergence(t, s) if kind == 'kl' else _divergence(s, t)
    if released and kind == 'l2':
        return _root(errors.sum() if counted is None else errors.masked_fill(~counted, 0).sum())
    return temperature**2 * _reduced(errors, counted, 'token' if kind == 'hard' else reduction)


def ce_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy of the next word, or of answers; 0 if no label counts.

    Args:
        logits: (B, T, V), where word t predicts word t + 1; or (B, V) of answers.
        labels: (B, T), -100 for words that do not count; or (B,).
    """
    if logits.dim() == 3:
        logits, labels = logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten()
    total = F.cross_entropy(logits.float(), labels, ignore_index=IGNORED, reduction='sum')
    return total / (labels != IGNORED).sum().clamp(min=1)


def stack(model: nn.Module) -> nn.ModuleList:
    """Return the stack of layers in which some are replaced.

    Raises:
        ValueError: the model is neither a VisualLanguageModel nor an M3ET.
    """
    if isinstance(model, VisualLanguageModel):
        return model.language.layers
    if isinstance(model, M3ET):
        return model.encoder.layers
    raise ValueError(f'the model is a {type(model).__name__}; give a VisualLanguageModel or an M3ET')


def _divergence(p: Tensor, q: Tensor) -> Tensor:
    """Return KL(p || q) of log probabilities (..., V), shape (...)."""
    return F.kl_div(q, p, reduction='none', log_target=True).sum(-1)


def _root(squares: Tensor) -> Tensor:
    """Return the square root, with a gradient of 0 at 0."""
    positive = squares > 0
    return torch.where(positive, squares, 1).sqrt() * positive


def _reduced(errors: Tensor, counted: Tensor | None, reduction: str) -> Tensor:
    """Return the mean of (B, ...) errors over the counted elements, or their sum divided by the batch."""
    counted = torch.ones_like(errors, dtype=torch.bool) if counted is None else counted
    total = errors.masked_fill(~counted, 0).sum()
    return total / len(errors) if reduction == 'released' else total / counted.sum().clamp(min=1)

"""Measure the shipped model in the installed runtimes against eager torch: a frame, its outputs, and words about it.

    python benchmarks/runtimes.py                 # writes benchmarks/results/runtimes.json
    python benchmarks/runtimes.py --runtimes openvino compile         # the first time takes minutes to compile

The figures are CPU time on one thread at batch 1, with the runtimes in turn within one process. All outputs of a
runtime are first compared with eager float32 on the probe frame; one that disagrees is left out, and the result says
so.
"""

import copy
from collections.abc import Callable

import torch
from timing import denormals_allowed, finish, interleaved, one_thread, options, ratios

from m3et_ros.data import preprocess
from m3et_ros.data.checkpoints import DEFAULT_MODEL
from m3et_ros.models.actions.frame_token import frame_token
from m3et_ros.runtime.backends.prepared import prepare
from m3et_ros.runtime.backends.probe import probe_frame
from m3et_ros.runtime.frame_tokens import encoded_guides, guides_shape
from m3et_ros.runtime.kernels import use_built
from m3et_ros.runtime.open_model import open_checkpoint

MODALITY_SETS = (('rgb', 'depth'),)
BASE = 'torch, float32'


def jobs(which, heads, inputs: dict, words: tuple, guides: tuple) -> dict[str, Callable]:
    """Return the work to time, by name."""

    def reconstruct():
        encoded = which.add_text(which.encode_images(inputs))
        return which.decode(encoded, 'depth'), which.decode(encoded, 'semseg')

    images = which.encode_images(inputs)
    return {
        'a frame and its dense outputs': reconstruct,
        'a question about a frame seen': lambda: heads.answer_logits(which.add_text(images, *words)),
        'the token of a frame for action head and memory': lambda: frame_token(which, images, *guides),
    }


def main() -> None:
    """Measure and write the figures."""
    parser = options(__doc__, rounds=15)
    parser.add_argument('--model', default=DEFAULT_MODEL)
    parser.add_argument('--runtimes', nargs='+', default=['openvino'], help='besides torch: openvino, compile')
    parser.add_argument('--precisions', nargs='+', default=['float32', 'bfloat16'])
    asked = parser.parse_args()
    one_thread()
    checkpoint = open_checkpoint(asked.model)
    model, left_out = checkpoint.model.eval(), {}
    inputs, _ = preprocess.image_inputs(probe_frame(), model.config)
    words = checkpoint.tokenizer.encode(['where is the cup?'], model.config.text_length)
    guides = encoded_guides(checkpoint)
    lower = copy.deepcopy(model).bfloat16()
    if use_built():
        left_out['native scans'] = 'used in both rows of torch; graphs keep the chunked form'
    ready = {}
    for name in asked.runtimes:
        for precision in asked.precisions:
            with denormals_allowed():
                found, serving = prepare(
                    model,
                    name,
                    precision=precision,
                    modality_sets=MODALITY_SETS,
                    guides=guides_shape(checkpoint),
                    report=print,
                )
            if found is None:
                left_out[f'{name}, {precision}'] = serving.reason
            else:
                ready[f'{name}, {precision}'] = found
    with torch.inference_mode():
        work = {
            BASE: jobs(model, model, inputs, words, guides),
            'torch, bfloat16': jobs(lower, lower, {name: t.bfloat16() for name, t in inputs.items()}, words, guides),
        }
        for name, found in ready.items():
            work[name] = jobs(found, model, inputs, words, guides)
        cases = {}
        for job in work[BASE]:
            ms = interleaved({name: calls[job] for name, calls in work.items()}, asked.rounds, job)
            cases[job] = {'cpu_ms': ms, 'times_as_fast': ratios(ms, BASE)}
    finish(
        'runtimes',
        {'rounds': asked.rounds, 'model': checkpoint.model_id, 'notes': left_out, 'cases': cases},
        asked.results,
    )


if __name__ == '__main__':
    main()

"""`m3et write`: a released language model continues a text."""

import math
from pathlib import Path
from typing import Annotated

import typer

from m3et_ros.cli.options import Json
from m3et_ros.cli.output import print_json, print_line, visible


def write(
    text: Annotated[str, typer.Argument(help='Beginning of the text.')],
    model: Annotated[Path, typer.Option(help='Folder of a released Mamba, Mamba-2 or Phi language model.')],
    tokens: Annotated[int, typer.Option(min=1, max=4096, help='Most tokens that are added.')] = 64,
    temperature: Annotated[float, typer.Option(min=0, max=100, help='0 takes the likeliest token.')] = 0.0,
    top_p: Annotated[
        float, typer.Option(min=1e-6, max=1, help='Draw among the likeliest tokens with this sum of probabilities.')
    ] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help='Seed of the draws.')] = 0,
    device: Annotated[str, typer.Option(help='auto, cpu, cuda, ...')] = 'auto',
    as_json: Json = False,
) -> None:
    """Continue a text with a released language model: how the language models of the papers are tried by themselves."""
    from m3et_ros.models.vlm.generation import Sampling
    from m3et_ros.runtime.language import LanguageWriter

    writer = LanguageWriter(model, device=device)
    sampling = Sampling(tokens, temperature=temperature, top_p=top_p)
    added, logs = '', []
    for whole, probability in writer.write(text, sampling, seed=seed):
        if not as_json:
            print(visible(whole[len(added) :]), end='', flush=True)
        added = whole
        logs.append(math.log(probability))
    if as_json:
        print_json(
            {
                'model': writer.model.config.name,
                'text': text,
                'added': added,
                'tokens': len(logs),
                'mean_log_probability': sum(logs) / len(logs) if logs else None,
            }
        )
    else:
        print_line()

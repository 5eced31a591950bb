"""Examples in the help of every verb: commands that work as they stand, given the files that they name."""

import typer

EXAMPLES: dict[str, tuple[str, ...]] = {
    'demo': ('m3et demo', 'm3et demo --seed 7 --rows 2 --out out/seven'),
    'robot': ('m3et robot --webcam 0', 'm3et robot --video clip.mp4', 'm3et robot --preset realsense'),
    'cameras': ('m3et cameras',),
    'ask': (
        'm3et ask "Is there a cup on the table?"',
        'm3et ask "What was done last?" --scope episode',
        'm3et ask "What is this?" --image photo.jpg',
    ),
    'chat': ('m3et chat', 'm3et chat --image photo.jpg'),
    'view': ('m3et view --open', 'm3et view --rerun --save robot.rrd', 'm3et view --foxglove'),
    'questions': ('m3et questions', 'm3et questions places/mine/checkpoint'),
    'mcp': ('m3et mcp', 'm3et mcp --http --port 8770'),
    'record': (
        'm3et record kitchen --seed 20011 --frames 200',
        'm3et record kitchens --eqa --seed 20000 --episodes 20 --compressed',
        'm3et record walk --live --frames 1500',
    ),
    'replay': (
        'm3et replay kitchen --loop',
        'm3et replay kitchen --robot',
        'm3et replay kitchens/20000 --evaluate --questions kitchens/questions.json --out results/live',
    ),
    'rerun': ('m3et rerun walk -o walk.rrd', 'm3et rerun walk -o walk.rrd --ask "Where is the cup?"'),
    'label': ('m3et label walk -o places/mine/labels --detection yolox_nano.onnx',),
    'teach': ('m3et teach walk --minutes 60 -o places/mine',),
    'models': ('m3et models', 'm3et models --parts'),
    'generate': ('m3et generate cache --seeds 0:4000', 'm3et generate cache --seeds 0:640 --stride 4 --frames 100'),
    'features': (
        'm3et features --epic annotations --frames EPIC-KITCHENS --backbone hf:MCG-NJU/videomae-base --out features',
    ),
    'write': ('m3et write "A robot" --model hf:state-spaces/mamba2-130m-hf',),
    'push': ('m3et push runs/vqa/checkpoint hf:owner/name --private',),
    'pull': ('m3et pull hf:HuggingFaceTB/SmolVLM-256M-Instruct -o models/SmolVLM',),
    'doctor': ('m3et doctor', 'm3et doctor --json'),
    'bench': ('m3et bench', 'm3et bench node'),
    'convert bag': ('m3et convert bag walk walk_set',),
    'convert lerobot': ('m3et convert lerobot walk_set walk_again',),
    'convert weights': ('m3et convert weights model.pt -o model',),
    'train pretrain': (
        'm3et train pretrain --data cache/kitchen --out runs/pretrain',
        'm3et train pretrain --data cache/kitchen --bag walk --every 3 --out runs/mine',
    ),
    'train vqa': (
        'm3et train vqa --data cache/kitchen --from runs/pretrain/checkpoint --out runs/vqa',
        'm3et train vqa --data cache/kitchen --out runs/vqa --resume',
        'm3et train vqa --data vqav2:questions.json,annotations.json,train2014 --out runs/vqav2',
    ),
    'train actions': (
        'm3et train actions --data cache/kitchen --from runs/vqa/checkpoint --out runs/actions',
        'm3et train actions --epic annotations --history --out runs/history',
        'm3et train actions --epic annotations --features features --task anticipation --out runs/clips',
    ),
    'train memory': ('m3et train memory --data cache/kitchen --from runs/actions/checkpoint --out runs/memory',),
    'train talk': (
        'm3et train talk --variant matvlm --data cache/kitchen --out runs/talk',
        'm3et train talk --variant emma --data cache/kitchen --out runs/emma --views runs/talk/views',
    ),
    'train hybrid': ('m3et train hybrid --data cache/kitchen --from kitchen_twin --share 0.5 --out runs/hybrid',),
    'evaluate vqa': (
        'm3et evaluate vqa --data test-own --out results/vqa',
        'm3et evaluate vqa --data vqav2:questions.json,annotations.json,val2014 --model runs/vqav2/checkpoint --out x',
        'm3et evaluate vqa kitchens/2* --questions kitchens/questions.json --out results/vqa',
    ),
    'evaluate reconstruction': (
        'm3et evaluate reconstruction --out results/reconstruction',
        'm3et evaluate reconstruction walk --out results/reconstruction --frames 200',
    ),
    'evaluate actions': ('m3et evaluate actions kitchens/2* --segments kitchens/segments.csv --out results/actions',),
    'evaluate epic': (
        'm3et evaluate epic --epic annotations --model runs/history/checkpoint --split validation --out results/epic',
        'm3et evaluate epic --epic annotations --features features --model runs/clips/checkpoint --out results/clips',
    ),
    'evaluate talk': ('m3et evaluate talk --model runs/talk/checkpoint --out results/talk',),
    'evaluate eqa': ('m3et evaluate eqa kitchens/2* --questions kitchens/questions.json --out results/eqa',),
    'evaluate answers': ('m3et evaluate answers results.json --questions questions.json --out results/other',),
    'evaluate merge': ('m3et evaluate merge machine1/out machine2/out --out results/all',),
    'evaluate compare': ('m3et evaluate compare results/blind results/eqa --out results/change',),
    'evaluate table': ('m3et evaluate table results/vqa results/eqa --out results/table',),
    'build kernels': ('m3et build kernels',),
    'build openvino': (
        'm3et build openvino --model kitchen',
        'm3et build openvino --precision int8 --calibrate cache/kitchen-v2-seeds0-23-224px-12x25',
    ),
}
"""Commands by the verb that they show, the best known use first."""


def add_examples(app: typer.Typer, group: str = '') -> None:
    """Put the examples of every verb of an app, and of the groups in it, below its help.

    Raises:
        KeyError: a verb has no example.
    """
    for command in app.registered_commands:
        # The help prints each paragraph of an epilog as a line.
        command.epilog = '\n\n'.join(('Examples:', *EXAMPLES[f'{group}{command.name}']))
    for inner in app.registered_groups:
        add_examples(inner.typer_instance, f'{group}{inner.name} ')

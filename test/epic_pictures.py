"""A made-up EPIC-KITCHENS-100 with pictures: the official classes, frame numbers and folders, and a tiny VideoMAE."""

import cv2
import numpy as np
import torch
from epic_folder import COLUMNS, row, write

FPS, LENGTH_S = 50, 4
VIDEOS = ('P01_01', 'P01_02', 'P02_01')
EXAM = 'P03_01'


def make_pictures(root):
    """Write root/annotations and root/pictures; what is done shows in the colour of the pictures."""
    folder = root / 'annotations'
    folder.mkdir(parents=True)
    for kind, count in (('verb', 97), ('noun', 300)):
        rows = [{'id': i, 'key': f'{kind}{i}', 'instances': '[]', 'category': 'all'} for i in range(count)]
        write(folder / f'EPIC_100_{kind}_classes.csv', ('id', 'key', 'instances', 'category'), rows)
        write(folder / f'EPIC_100_tail_{kind}s.csv', (kind,), [{kind: 1}])
    for file, videos in (('train', VIDEOS), ('validation', (EXAM,))):
        rows = []
        for video in videos:
            for i, start in enumerate((1.2, 2.4)):
                frames = {'start_frame': int(FPS * start) + 1, 'stop_frame': int(FPS * (start + 1)) + 1}
                rows.append(row(f'{video}_{i}', start, start + 1, 0, 0, verb_class=i, noun_class=2 * i, **frames))
        write(folder / f'EPIC_100_{file}.csv', COLUMNS, rows)
    columns = ('video_id', 'duration', 'fps', 'resolution')
    facts = [{'video_id': v, 'duration': LENGTH_S, 'fps': 50.0, 'resolution': '16x16'} for v in (*VIDEOS, EXAM)]
    write(folder / 'EPIC_100_video_info.csv', columns, facts)
    for video in (*VIDEOS, EXAM):
        place = root / 'pictures' / video.split('_')[0] / 'rgb_frames' / video
        place.mkdir(parents=True)
        for i in range(FPS * LENGTH_S):
            picture = np.full((16, 20, 3), 40 + i, np.uint8)
            cv2.imwrite(str(place / f'frame_{i + 1:010d}.jpg'), picture)
    return root


def write_videomae(folder, *, seed=0):
    """Write a VideoMAE with random weights for four pictures of 16 pixels; return its folder as a string."""
    from transformers import VideoMAEConfig, VideoMAEModel

    sizes = {'hidden_size': 32, 'num_hidden_layers': 1, 'num_attention_heads': 2, 'intermediate_size': 32}
    config = VideoMAEConfig(image_size=16, patch_size=8, num_frames=4, **sizes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        VideoMAEModel(config).save_pretrained(folder)
    (folder / 'preprocessor_config.json').write_text('{"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4]}')
    return str(folder)

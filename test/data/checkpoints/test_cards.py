"""The YAML head of model cards, as the Hub's own library reads it."""

import pytest
from huggingface_hub import ModelCard

from m3et_ros.data.checkpoints import SHIPPED
from m3et_ros.data.checkpoints.cards import PIPELINES, with_head


@pytest.mark.parametrize('kind', ['m3et', 'talk', 'history', 'video'])
def test_a_card_gets_a_head_that_the_hub_reads(kind):
    text = '# kitchen@b7af2be1\n\nStarted from `kitchen@f8f1b152`.\n'
    card = ModelCard(with_head(text, kind))
    assert card.data.to_dict() == {
        'license': 'apache-2.0',
        'library_name': 'm3et_ros',
        'pipeline_tag': PIPELINES[kind],
        'tags': ['robotics', 'ros2', 'mamba', kind],
        'language': ['en'],
        'm3et_base': 'kitchen@f8f1b152',
    }
    assert card.text.strip() == text.strip()
    assert with_head(with_head(text, kind), kind) == with_head(text, kind)


def test_a_head_that_is_there_stays_and_a_rule_across_a_card_is_none():
    own = '---\nlicense: mit\n---\n# Mine\n'
    assert with_head(own, 'm3et') == own
    ruled = '# A\n\n---\n\nB\n\n---\n'
    assert with_head(ruled, 'm3et').endswith(ruled)
    assert 'm3et_base' not in with_head(ruled, 'm3et')


@pytest.mark.parametrize('head', ['- a', 'a: [', 'text'], ids=['list', 'broken', 'text'])
def test_a_head_that_is_no_mapping_is_refused(head):
    with pytest.raises(ValueError, match='is no YAML'):
        with_head(f'---\n{head}\n---\n', 'm3et')


@pytest.mark.parametrize('name', ['m3et_kitchen', 'm3et_kitchen2', 'm3et_talk'])
def test_the_shipped_cards_have_heads(name):
    assert ModelCard.load(SHIPPED / name / 'README.md').data.library_name == 'm3et_ros'

"""Trees of tensors are taken apart and put together again, whatever they are made of."""

from collections import namedtuple
from dataclasses import dataclass

import torch

from m3et_ros.runtime.tensor_trees import leaves, rebuilt

Pair = namedtuple('Pair', 'first second')


@dataclass(frozen=True)
class Node:
    left: object
    right: object


def tree(scale=1):
    number = iter(range(1, 9))

    def tensor():
        return torch.tensor([scale * next(number)])

    pair = Pair(tensor(), None)
    return Node([tensor(), (tensor(), 'text')], {'a': tensor(), 'b': pair._replace(second=3)})


def test_leaves_come_in_order_and_other_values_are_skipped():
    assert [int(leaf) for leaf in leaves(tree())] == [2, 3, 4, 1]


def test_a_tree_is_rebuilt_with_its_structure():
    built = rebuilt(tree(), iter(list(leaves(tree(10)))))
    assert built == tree(10)
    assert isinstance(built.right['b'], Pair) and isinstance(built.left[1], tuple) and built.left[1][1] == 'text'

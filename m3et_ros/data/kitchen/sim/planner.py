"""The next action: every action that makes sense now, weighted by one table.

From a seed to a question: after sim/actions.py, before sim/episode.py.
"""

from m3et_ros.data.kitchen.sim.parts import Slot
from m3et_ros.data.kitchen.sim.vocabulary import AFFORDS
from m3et_ros.data.kitchen.sim.world import OPEN, World

WEIGHTS = {
    'take': 4.0,
    'put': 1.5,
    'open': 5.0,
    'close': 30.0,
    'turn-on': 3.5,
    'turn-off': 6.0,
    'wash': 18.0,
    'cut': 10.0,
    'mix': 7.0,
    'pour': 9.0,
    'throw': 2.0,
    'shake': 3.5,
}
"""Weight of a verb that is possible; its targets share it in proportion to their interest."""

FOLLOWS = {
    ('open', 'take'): 15.0,
    ('turn-on', 'take'): 20.0,
    ('turn-on', 'turn-off'): 0.0,
    ('turn-off', 'turn-on'): 0.1,
    ('take', 'put'): 0.3,
    ('wash', 'wash'): 0.0,
    ('shake', 'shake'): 0.0,
    ('cut', 'cut'): 0.4,
    ('mix', 'mix'): 0.3,
    ('pour', 'pour'): 0.25,
    ('wash', 'put'): 3.0,
    ('cut', 'put'): 2.0,
    ('mix', 'put'): 2.0,
    ('pour', 'put'): 3.0,
    ('shake', 'put'): 3.0,
    ('put', 'turn-off'): 3.0,
    ('throw', 'turn-off'): 3.0,
    ('close', 'open'): 0.5,
}
"""(last verb, verb) -> factor on the weight of the verb; 1 if not listed."""

USEFUL = {'knife': 8.0, 'spoon': 6.0, 'bottle': 3.0, 'milk': 3.0, 'kettle': 3.0, 'jar': 2.0}
"""Noun -> interest in taking it, higher for objects that allow more actions; 1 if not listed."""

NEVER_TAKEN = ('board:chopping',)

Target = str | Slot | None
Choice = tuple[float, str, Target]
"""Weight, verb and target of one possible action."""


def choose(world: World) -> tuple[str, Target]:
    """Draw the verb and the target of the next action."""
    choices = legal_actions(world)
    weights = [weight for weight, _, _ in choices]
    total = sum(weights)
    _, verb, target = choices[world.rng.choice(len(choices), p=[weight / total for weight in weights])]
    return verb, target


def legal_actions(world: World) -> list[Choice]:
    """Return every action that makes sense now, with its weight; weights are above 0.

    After opening a container the person takes something out of it or closes it again.
    """
    by_verb = _with_free_hand(world) if world.held is None else _with_full_hand(world)
    last = world.labels[-1] if world.labels else None
    if last and last.verb == 'open':
        inside: dict[Target, float] = {
            name: interest
            for name, interest in by_verb['take'].items()
            if isinstance(name, str) and world.container_of(name) == last.container
        }
        by_verb = {'take': inside, 'close': {last.container: 1.0}}
    choices: list[Choice] = []
    for verb, targets in by_verb.items():
        weight = WEIGHTS[verb] * FOLLOWS.get((last.verb if last else '', verb), 1.0)
        total = sum(targets.values())
        choices += [(weight * interest / total, verb, target) for target, interest in targets.items() if interest]
    return [choice for choice in choices if choice[0] > 0]


def _with_free_hand(world: World) -> dict[str, dict[Target, float]]:
    """Return verb -> target -> interest for an empty hand; at most one container is open at a time."""
    doors = [name for name in world.scene.containers if name != 'tap']
    ajar = [name for name in doors if world.openness[name] > OPEN]
    filled = {slot.inside for slot in world.scene.slots if slot.inside and slot.occupant}
    last = world.labels[-1] if world.labels else None
    just_put = last.instance if last and last.verb == 'put' else None
    return {
        'open': {} if ajar else {name: 1.0 if name in filled else 0.05 for name in doors},
        'close': dict.fromkeys(ajar, 1.0),
        'turn-on': {} if world.running else {None: 1.0},
        'turn-off': {None: 1.0} if world.running else {},
        'take': {
            name: USEFUL.get(world.scene.things[name].noun, 1.0)
            for name in _in_reach(world)
            if world.scene.things[name].noun not in NEVER_TAKEN and name != just_put
        },
    }


def _with_full_hand(world: World) -> dict[str, dict[Target, float]]:
    """Return verb -> target -> interest for the held object."""
    things = world.scene.things
    noun = things[world.held_name].noun
    exposed = [name for name in _in_reach(world) if not world.container_of(name)]
    vessels = [name for name in exposed if things[name].inner]
    can = {verb for verb in ('pour', 'wash', 'shake', 'throw') if noun in AFFORDS[verb]}
    return {
        'put': {slot: _appeal(world, slot) for slot in world.scene.slots if slot.takes(noun) and world.reachable(slot)},
        'pour': {name: 1.0 for name in vessels if world.fill[name] < 0.5} if 'pour' in can else {},
        'mix': dict.fromkeys(vessels, 1.0) if noun == 'spoon' else {},
        'cut': {name: 1.0 for name in exposed if things[name].noun in AFFORDS['cut']} if noun == 'knife' else {},
        'wash': {None: 1.0} if 'wash' in can and world.running else {},
        'shake': {None: 1.0} if 'shake' in can else {},
        'throw': {None: 1.0} if 'throw' in can else {},
    }


def _appeal(world: World, slot: Slot) -> float:
    """Return the interest in laying the held object into a slot; straight back where it was taken is unlikely."""
    back = 0.04 if slot is world.taken_from and world.labels[-1].verb == 'take' else 1.0
    if slot.inside:
        return back * 4.0
    return back * (2.0 if slot.accepts else 1.0)


def _in_reach(world: World) -> list[str]:
    """Return the objects that the hand can reach."""
    return [name for name, slot in world.slot.items() if slot and world.reachable(slot)]

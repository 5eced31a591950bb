"""Which actions make sense now, and how likely each is: one table of weights."""

from m3et_ros.data.kitchen.parts import Slot
from m3et_ros.data.kitchen.state import OPEN, World
from m3et_ros.data.kitchen.vocabulary import AFFORDS

WEIGHTS = {
    'take': 4., 'put': 1.5, 'open': 5., 'close': 30., 'turn-on': 3.5, 'turn-off': 6., 'wash': 18., 'cut': 10.,
    'mix': 7., 'pour': 9., 'throw': 2., 'shake': 3.5,
}
"""Weight of a verb whenever it can be done; the targets of a verb share it by `interest`."""

FOLLOWS = {
    ('open', 'take'): 15., ('turn-on', 'take'): 20., ('turn-on', 'turn-off'): 0., ('turn-off', 'turn-on'): .1,
    ('take', 'put'): .3, ('wash', 'wash'): 0., ('shake', 'shake'): 0., ('cut', 'cut'): .4, ('mix', 'mix'): .3,
    ('pour', 'pour'): .25, ('wash', 'put'): 3., ('cut', 'put'): 2., ('mix', 'put'): 2., ('pour', 'put'): 3.,
    ('shake', 'put'): 3., ('put', 'turn-off'): 3., ('throw', 'turn-off'): 3., ('close', 'open'): .5,
}
"""Factor on the weight of a verb after another one; 1 where not listed."""

USEFUL = {'knife': 8., 'spoon': 6., 'bottle': 3., 'milk': 3., 'kettle': 3., 'jar': 2.}
"""Interest in taking a thing, because more can be done with it; 1 where not listed."""

NEVER_TAKEN = ('board:chopping',)

Target = str | Slot | None
Choice = tuple[float, str, Target]
"""Weight, verb and target of one possible action."""


def choose(world: World) -> tuple[str, Target]:
    """Draw the next action."""
    choices = legal_actions(world)
    weights = [weight for weight, _, _ in choices]
    total = sum(weights)
    _, verb, target = choices[world.rng.choice(len(choices), p=[weight / total for weight in weights])]
    return verb, target


def legal_actions(world: World) -> list[Choice]:
    """Every action that makes sense now, with its weight."""
    by_verb = _with_free_hand(world) if world.held is None else _with_full_hand(world)
    last = world.labels[-1] if world.labels else None
    if last and last.verb == 'open':  # nobody opens a door and walks away
        inside = {name: interest for name, interest in by_verb['take'].items()
                  if world.slot[name].inside == last.container}
        by_verb = {'take': inside, 'close': {last.container: 1.}}
    choices = []
    for verb, targets in by_verb.items():
        weight = WEIGHTS[verb] * FOLLOWS.get((last.verb if last else '', verb), 1.)
        total = sum(targets.values())
        choices += [(weight * interest / total, verb, target) for target, interest in targets.items() if interest]
    return [choice for choice in choices if choice[0] > 0]


def _with_free_hand(world: World) -> dict[str, dict[Target, float]]:
    """Verb -> target -> interest while nothing is held; one container is open at a time."""
    doors = [name for name in world.scene.containers if name != 'tap']
    ajar = [name for name in doors if world.openness[name] > OPEN]
    filled = {slot.inside for slot in world.scene.slots if slot.inside and slot.occupant}
    return {
        'open': {} if ajar else {name: 1. if name in filled else .05 for name in doors},
        'close': dict.fromkeys(ajar, 1.),
        'turn-on': {} if world.running else {None: 1.},
        'turn-off': {None: 1.} if world.running else {},
        'take': {name: USEFUL.get(world.scene.things[name].noun, 1.) for name in _in_reach(world)
                 if world.scene.things[name].noun not in NEVER_TAKEN and not _just_laid_down(world, name)},
    }


def _with_full_hand(world: World) -> dict[str, dict[Target, float]]:
    """Verb -> target -> interest for what is held."""
    held = world.scene.things[world.held]
    on_view = [name for name in _in_reach(world) if world.slot[name].inside is None]
    vessels = [name for name in on_view if world.scene.things[name].inner]
    free = [slot for slot in world.scene.slots if slot.takes(held.noun) and world.reachable(slot)]
    can = {verb: held.noun in AFFORDS[verb] for verb in ('pour', 'wash', 'shake', 'throw')}
    return {
        'put': {slot: _appeal(world, slot) for slot in free},
        'pour': {name: 1. for name in vessels if world.fill[name] < .5} if can['pour'] else {},
        'mix': {name: 1. for name in vessels} if held.noun == 'spoon' else {},
        'cut': {name: 1. for name in on_view if world.scene.things[name].noun in AFFORDS['cut']}
        if held.noun == 'knife' else {},
        'wash': {None: 1.} if can['wash'] and world.running else {},
        'shake': {None: 1.} if can['shake'] else {},
        'throw': {None: 1.} if can['throw'] else {},
    }


def _appeal(world: World, slot: Slot) -> float:
    """Interest in laying what is held into a slot: where it belongs, but seldom straight back."""
    back = .04 if slot is world.taken_from and world.labels[-1].verb == 'take' else 1.
    return back * (4. if slot.inside else 2. if slot.accepts else 1.)


def _in_reach(world: World) -> list[str]:
    """Things that lie where the hand can get at them."""
    return [name for name, slot in world.slot.items() if slot and world.reachable(slot)]


def _just_laid_down(world: World, name: str) -> bool:
    """Whether the last action put the thing where it is."""
    return bool(world.labels) and world.labels[-1].verb == 'put' and world.labels[-1].instance == name

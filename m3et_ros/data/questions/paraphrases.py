"""Wordings that mean the same as a taught one, kind by kind; fields in braces are those of the kind.

They are read only where the model was taught that kind. Articles, politeness, synonyms and small words need no entry of
their own: data/questions/reader.py reads over them.
"""

FRAME: dict[str, tuple[str, ...]] = {
    'existence': (
        'Is there {article}?', 'Is there {article} here?', 'Is {article} in view?', 'Do you see {article}?',
        'Can you spot {article}?', 'Can you find {article}?', 'Is {article} here?', 'Is {article} present?',
        'Is there {article} in front of the camera?', 'Does the picture show {article}?',
        'Are there {article} around?',
    ),
    'count': (
        'How many {plural}?', 'How many {plural} are there?', 'How many {plural} do you see?',
        'Count the {plural}.', 'What is the number of {plural}?', 'The number of {plural}?',
        'How many {plural} do you count?', 'What number of {plural} is there?',
        'What is the number of {plural} in view?', 'How many {plural} are in front of the camera?',
    ),
    'count_colour': (
        'How many {colour} objects?', 'How many {colour} objects are there?',
        'How many {colour} objects do you see?', 'How many objects are {colour}?',
        'How many {colour} objects do you count?', 'Count the {colour} objects.',
    ),
    'colour': (
        'What is the colour of the {a}?', 'The colour of the {a}?', 'Which colour is the {a}?',
        'What colour does the {a} have?', 'What colour {a} is there?', 'What colour {a} do you see?',
        'What colour {a} is it?', '{a} colour?', 'What colour the {a} is?',
    ),
    'is_colour': (
        'Is the colour of the {a} {colour}?', 'Does the {a} look {colour}?', 'Is the {a} a {colour} one?',
        'Is it a {colour} {a}?', 'Is the {a} of {colour} colour?', 'Is the {a} coloured {colour}?',
    ),
    'location': (
        'Where is the {a} located?', 'Where do you see the {a}?', 'Where can you see the {a}?',
        'Where the {a} is?', 'Where is the {a} placed?', 'Where does the {a} stand?', 'Where does the {a} lie?',
        'Where is the {a} lying?', 'Where is the {a} standing?', 'Where to find the {a}?',
        'What is the location of the {a}?', 'The location of the {a}?', 'In which place is the {a}?',
        'Do you see where the {a} is?', 'Can you find out where the {a} is?',
    ),
    'is_located': (
        'Is the {a} located {place}?', 'Is there {a} {place}?', 'Does the {a} stand {place}?',
        'Does the {a} lie {place}?', 'Do you see the {a} {place}?', 'Can you see the {a} {place}?',
        'Is the {a} standing {place}?', 'Is the {a} lying {place}?', 'Is {place} the {a}?',
    ),
    'distance': (
        'How far is the {a}?', 'How far away is the {a} from the camera?', 'How far is it to the {a}?',
        'The distance to the {a}?', 'How many metres is it to the {a}?', 'How many metres to the {a}?',
        'What distance is the {a} at?', 'How many metres away is the {a}?', 'How distant is the {a}?',
        'How close is the {a}?', 'How near is the {a}?', 'What is the distance of the {a}?',
        'How far away the {a} is?', 'At what distance is the {a}?',
    ),
    'in_reach': (
        'Can the person reach the {a}?', 'Can you reach the {a}?', 'Can I reach the {a}?',
        'Can the {a} be reached?', 'Is the {a} close enough to reach?', 'Is the {a} near enough to reach?',
        'Is the {a} close enough to take?', 'Can I reach the {a} without walking?',
    ),
    'closer': (
        'Which one is closer, the {a} or the {b}?', 'What is closer, the {a} or the {b}?',
        'Is the {a} or the {b} closer?', 'Which is nearer to the camera, the {a} or the {b}?',
        'Which of the {a} and the {b} is closer?', 'Which is closer to me, the {a} or the {b}?',
        'Which is nearest, the {a} or the {b}?',
    ),
    'region': (
        'Where in the view is the {a}?', 'On which side is the {a}?',
        'Is the {a} on the left, the middle or the right?', 'Which part of the view is the {a} on?',
        'Is the {a} on the left or the right?', 'Is the {a} on the left or right?', 'Which side is the {a} on?',
        'Is the {a} on the left or on the right?', 'Is the {a} left or right?',
        'Is the {a} left, middle or right?', 'In which part of the picture is the {a}?',
        'In which part of the image is the {a}?', 'In what part of the view is the {a}?',
        'On what side is the {a}?', 'What side is the {a} on?',
        'Is the {a} on the left, in the middle or the right?',
    ),
    'left_of': ('Is the {a} left to the {b}?', 'Is the {a} to the left side of the {b}?'),
    'right_of': ('Is the {a} right to the {b}?', 'Is the {a} to the right side of the {b}?'),
    'nearest': (
        'Which object is nearest?', 'Which is the nearest object?', 'What is nearest?',
        'What is nearest to the camera?', 'What is nearest to me?', 'Which object is nearest to me?',
        'What object is nearest?', 'What object is nearest to me?', 'What object is nearest to the camera?',
        'What is the object nearest to the camera?', 'Which is the object nearest to the camera?',
    ),
    'is_nearest': (
        'Is the {a} nearest?', 'Is the {a} nearest to the camera?', 'Is the nearest object the {a}?',
        'Is the {a} the object nearest to the camera?', 'Is the nearest object {a}?',
    ),
    'is_open': (
        'Is there an open {a}?', 'Can you see an open {a}?', 'Is an open {a} in view?', 'Is the {a} door open?',
        'Is there a {a} open?', 'Is there an open {a} in view?',
    ),
    'is_on': (
        'Is the tap running?', 'Is the water running?', 'Is water running?', 'Is the water on?',
        'Is the tap turned on?', 'Is water coming out of the tap?', 'Is water coming from the tap?',
        'Is the tap open?', 'Is there water running from the tap?', 'Is the water turned on?',
        'Is there water running?', 'Is water flowing from the tap?', 'Is the water flowing?', 'Does the tap run?',
    ),
    'is_filled': (
        'Is something in the {a}?', 'Is there something inside the {a}?', 'Is the {a} filled?',
        'Is the {a} filled with something?', 'Is the {a} full?', 'Does the {a} contain something?',
        'Is there something inside of the {a}?', 'Has the {a} been filled?', 'Is something inside the {a}?',
        'Is something been poured into the {a}?',
    ),
    'holding': (
        'Is something in the hand?', 'Is the person holding something?',
        'Does the person have something in the hand?', 'Does the hand have something?',
        'Does the hand hold something?', 'Does the person hold something?', 'Is the hand full?',
        'Is there something held in the hand?',
    ),
    'empty_handed': ('Is there nothing in the hand?', 'Is nothing in the hand?', 'Is the hand holding nothing?'),
    'held': (
        'What is the person holding?', 'Which object is in the hand?', 'What is held in the hand?',
        'Which object is the hand holding?', 'What does the hand hold?', 'What does the person hold?',
        'What object is in the hand?', 'What is held?', 'What object is the hand holding?',
        'Which object is the person holding?', 'What is being held?', 'What object is the person holding?',
        'What does the person have in the hand?', 'What is the hand carrying?',
    ),
    'now': (
        'What does the person do?', 'What is happening?', 'Which action is happening?',
        'What action is the person doing?', 'Which action is the person doing?', 'What is going on?',
        'Which action is being done?', 'What action is being done?', 'What is the present action?',
        'What is the current action?', 'What is the person doing at the moment?', 'What are you doing?',
        'What is the robot doing?', 'Which action is under way?',
    ),
    'now_verb': (
        'Which verb fits the current action?', 'What verb fits the present action?',
        'What verb fits the current action?',
    ),
    'now_noun': (
        'What is the person using?', 'Which object is the person using?', 'Which object is being used?',
        'What object is being used?', 'What object is being acted on?', 'What is being acted on?',
        'Which object is in use?', 'What does the person use?',
    ),
    'last': (
        'What was the last action?', 'Which action was last?', 'What did the person do last?',
        'What did the person just do?', 'What has just been done?', 'What has just happened?',
        'What was done before?', 'What happened before?', 'What happened last?', 'What just happened?',
        'What has been done last?', 'What was the previous action?', 'What did you do last?',
    ),
    'before_last': ('What was the action before the last?', 'Which action came before the last one?'),
    'first': (
        'What was done first?', 'Which action was first?', 'What did the person do first?', 'What happened first?',
    ),
    'how_many_done': (
        'How many actions were done?', 'How many actions has the person done?', 'How many actions are done?',
    ),
    'used': ('Was the {a} used?', 'Has the {a} been used before?', 'Did the person use the {a}?'),
    'next': (
        'What happens next?', 'What comes next?', 'What will happen next?', 'What is next?', 'What is done next?',
        'What is the next action?', 'What is the person going to do next?', 'What does the person do next?',
        'What is the person about to do?', 'Which action comes next?', 'What will the next action be?',
    ),
    'next_verb': ('What verb comes next?',),
    'next_noun': (
        'What object will be used next?', 'What will be used next?', 'Which object comes next?',
        'Which object is used next?', 'What will the person use next?',
    ),
}  # fmt: skip
"""Kind of question about a frame -> wordings beside the taught ones."""

EPISODE: dict[str, tuple[str, ...]] = {
    'was_seen': (
        'Was there {article}?', 'Did you see {article}?', 'Have you seen {article} before?',
        'Was {article} in view?', 'Did you see {article} before?', 'Is there {article}?',
        'Have we seen {article}?',
    ),
    'what_there': (
        'What is {place}?', 'Which object is {place}?', 'What was there {place}?', 'What object was {place}?',
        'What did you see {place}?',
    ),
    'how_many': (
        'How many {plural} did you see?', 'How many {plural} were in view?', 'How many {plural} are there?',
        'How many {plural} have you seen before?', 'How many {plural}?',
    ),
    'where_now': (
        'Where is the {a}?', 'Where did you last see the {a}?', 'Where was the {a}?',
        'Where have you seen the {a}?', 'Where did you see the {a}?', 'Where is the {a} located?',
        'Where can I find the {a}?', 'Where did I leave the {a}?', 'Where have you last seen the {a}?',
        'Where was the {a} seen last?', 'Where the {a} is?', 'Where was the {a} last?',
    ),
    'is_there': ('Was the {a} {place}?', 'Is there {a} {place}?'),
    'was_colour': (
        'What was the colour of the {a}?', 'What colour did the {a} have?', 'Which colour was the {a}?',
        'What colour is the {a}?', 'What is the colour of the {a}?', 'Which colour does the {a} have?',
    ),
    'which_colour': ('Which is {colour}, the {a} or the {b}?', 'What was {colour}, the {a} or the {b}?'),
    'was_that_colour': ('Is the {a} {colour}?',),
    'was_opened': (
        'Has {article} been opened?', 'Did the person open {article}?', 'Did you see {article} being opened?',
        'Have you opened {article}?',
    ),
    'still_open': ('Is the {a} open?', 'Was the {a} left open?'),
    'still_on': (
        'Is the tap on?', 'Is the water running?', 'Is the tap still running?', 'Is the water still on?',
        'Was the tap left on?', 'Is water running from the tap?', 'Is water still running from the tap?',
    ),
    'still_filled': ('Is something in the {a}?', 'Is there still something in the {a}?', 'Is the {a} filled?'),
    'was_done': ('Did the person {done} the {a}?',),
    'nearer_to': ('Which is closer to the {c}, the {a} or the {b}?',),
    'same_place': ('Is the {a} in the same place as the {b}?', 'Were the {a} and the {b} in the same place?'),
    'use_seen': ('Did you see something to {use}?', 'Is there something to {use}?'),
    'use_what': ('What is there to {use}?', 'What can I {use}?'),
    'use_where': ('Where can I find something to {use}?', 'Where was something to {use}?'),
    'fact_seen': ('Did you see {fact}?', 'Have you seen {fact}?', 'Is there {fact}?'),
    'fact_where': ('Where was {fact}?', 'Where can I find {fact}?'),
    'first': ('Which action was first?', 'What did the person do first?', 'What happened first?'),
    'last': (
        'What has the person just done?', 'What did the person do last?', 'What was done before?',
        'What has just been done?', 'What did the person just do?', 'What has been done last?',
        'What happened last?', 'What was the previous action?', 'What happened before?', 'Which action was last?',
    ),
    'before_last': ('What was the action before the last?', 'Which action came before the last one?'),
    'how_many_done': (
        'How many actions are finished?', 'How many actions were done?', 'How many actions has the person done?',
        'How many actions have been done so far?',
    ),
    'right_after': (
        'What came after {action}?', 'What was done after {action}?', 'What happened after {action}?',
        'What came right after {action}?',
    ),
    'which_first': ('Which came first, {action} or {other}?',),
    'ever_done': (
        'Was {action} done?', 'Has this been done: {action}?', 'Did this happen: {action}?',
        'Did the person {action}?', 'Did you see the person {action}?',
    ),
}  # fmt: skip
"""Kind of question about an episode -> wordings beside the taught ones."""

SCENE = (
    'Describe the scene.', 'A description of the scene.', 'Give a description of the scene.',
    'Describe what is in view.', 'Describe the picture.', 'Describe the image.', 'Describe it.',
    'Describe what you see.', 'Describe the view.', 'Describe this.', 'What is this?', 'What is that?',
    'What do you see?', 'What can you see?', 'What is in view?', 'What is here?', 'What is there?',
    'What is in front of the camera?', 'What is shown?', 'What objects are in view?', 'What objects do you see?',
    'Which objects are in view?', 'Which objects do you see?', 'Which objects can you see?',
    'What objects can you see?', 'What does the picture show?', 'What are you looking at?',
    'What am I looking at?', 'List the objects.', 'List the objects in view.', 'What objects are there?',
    'Which objects are there?', 'Describe the room.', 'Describe the kitchen.', 'What does the camera see?',
    'Describe your surroundings.', 'What is around you?', 'What are these?', 'What does it show?',
    'What does the image show?', 'What is in the kitchen?', 'Name the objects in view.',
)  # fmt: skip
"""Wordings of the question for a description, which is composed of the answers to taught questions."""

AT_PLACE = (
    'What is {place}?', 'What is there {place}?', 'What objects are {place}?', 'Which objects are {place}?',
    'What do you see {place}?', 'What objects can be seen {place}?', 'What objects do you see {place}?',
    'What can you see {place}?', 'What is lying {place}?', 'What stands {place}?', 'What object is {place}?',
    'Which object is {place}?', 'What is standing {place}?', 'What lies {place}?', 'What is kept {place}?',
    'Describe what is {place}.',
)  # fmt: skip
"""Wordings of the question for the things at a place, composed likewise."""

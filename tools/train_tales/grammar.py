"""Stories from plots and words: they keep to their hero, friend and object by construction."""
import random
import re

from plots import PLOTS
from words import (ANIMALS, BOYS, COLOURS, FEARS, FOODS, GIRLS, HOMES, LOOKS, OBJECTS, PERSONS, PETS, PLACES, PLANTS, SKILLS, SYLLABLES,
                   THINGS, TRAITS, WEATHER)

SOUNDS = 'bump, knock, tap, scratch, squeak, crack, whoo, plop, rattle'.split(', ')
PRONOUNS = {'m': ('he', 'him', 'his'), 'f': ('she', 'her', 'her'), 'n': ('it', 'it', 'its'), 'p': ('they', 'them', 'their')}
# How many steps a cold beginning tells already.
SKIPPED = {'lost': 2, 'journey': 2, 'wish': 1, 'snow': 1}
INTRODUCTIONS = [
    'Once upon a time, there was {hero}.', 'Once upon a time, there was {hero} who lived {home}.', 'There once was {hero}.',
    'Long ago, there lived {hero}.', '{hero} lived {home}.', 'Far away, {home}, lived {hero}.', 'Once there was {hero}.',
    'In a land far away, there lived {hero}.', 'This is the story of {hero}.', '{N} was {short}.',
]
SECOND = ['{he} lived {home}.', '{he} loved to {skill}.', '{he} lived {home} with {his} family.', 'Everyone liked {him}.',
          '{he} had a {thing}.', '{he} liked {food0} more than anything.', '{he} was always {trait}.']
# Beginnings that say little, the plots that may follow, and how many of their steps are told.
GENERAL = [
    ('{N} had a {thing}.', {'lost': 1, 'lie': 1}), ('{N} loved {his} {thing}.', {'lost': 1}), ('{N} got a {thing} for {his} birthday.', {'lost': 1}),
    ('{N} went {there}.', {'found': 1, 'hungry': 2, 'town': 2, 'rescue': 1, 'way': 1, 'lonely': 2}),
    ('{N} walked {there}.', {'found': 1, 'way': 1, 'rescue': 1}), ('{N} sat {at}.', {'lonely': 0, 'rescue': 1, 'hungry': 0}),
    ('{N} lived {home}.', {'lonely': 0, 'bedtime': 0, 'noise': 0, 'hungry': 0, 'journey': 0, 'afraid': 0, 'learn': 0}),
    ('{N} and {friend} were best friends.', {'gift': 1, 'sick': 0, 'build': 0, 'secret': 0}), ('{N} saw {friend} {at}.', {'rescue': 1, 'hungry': 3}),
    ('{N} met {friend}.', {'lonely': 4, 'race': 1}), ('{N} loved to {skill}.', {'contest': 0, 'lonely': 0}), ('{N} loved {skilling}.', {'contest': 0}),
    ('{N} was sad.', {'lonely': 0, 'lost': 1}), ('{N} was happy.', {'found': 0, 'gift': 0, 'cooking': 0}), ('{N} was tired.', {'bedtime': 0}),
    ('{N} was {trait}.', {'lonely': 0, 'hungry': 0, 'learn': 0, 'found': 0, 'bad': 0, 'storm': 0}),
    ('There was a {thing} {at}.', {'found': 0}), ('{N} wanted a {thing}.', {'town': 1, 'wish': 0}), ('{N} wanted to play.', {'lonely': 0, 'sick': 0}),
    ('{N} woke up early.', {'journey': 0, 'found': 0, 'cooking': 0}), ('It was a {day} day.', {'found': 0, 'storm': 0, 'race': 0, 'journey': 0}),
    ('The sun was shining.', {'journey': 0, 'found': 0}), ('{N} was playing {at}.', {'found': 1, 'rescue': 1, 'lie': 1, 'way': 1}),
]
GREETINGS = ['Hello', 'Hi', 'Hey', 'Hello!', 'Hi!', 'Hello there', 'Hi there!', 'Good morning', 'Good evening', 'Hey there', 'hello', 'hi',
             'Good day', 'How are you?', 'Hello, how are you?', 'Hi, what can you do?', 'Bonjour', 'Bonjour !', 'Salut']
WISHES = ['Tell me a story about {t}.', 'Tell me a story about {t}', 'Tell a story about {t}.', 'A story about {t}, please.', 'Write a story about {t}.',
          'Please tell me about {t}.', 'I want a story about {t}.', 'Can you tell me a story about {t}?', 'tell me a story about {t}', '{t}',
          'Write a short story about {t}', 'Once more, but about {t}.', 'Make up a tale about {t}.', 'Tell me a tale of {t}.', 'What about {t}?']
BLANKS = ['Tell me a story.', 'Tell me a story', 'A story, please.', 'Please tell me a story!', 'I am bored.', 'Write a story.', 'I cannot sleep.',
          'Tell me something.', 'Another one!', 'One more, please.', 'Yes, please.', 'OK', 'Thanks!', 'Raconte-moi une histoire.']
STRAYS = ['What is two plus two?', 'Who are you?', 'What is the capital of France?', 'Write a program in Python.', 'What time is it?', 'Explain physics.',
          'Translate this into French.', 'What is your name?', 'How do I cook rice?', 'Who is the president?', 'Can you help me with my homework?',
          'What is the weather today?', 'Give me a list of cities.', 'What is 17 times 3?', 'Why is the sky blue?', 'What model are you?',
          'Summarise this text.', 'How old are you?', 'What is machine learning?', 'Do you like music?', 'Where is Berlin?', 'Qui es-tu ?']
EXCUSES = ['I only know how to tell tales. Here is one. ', 'That I do not know, but I know a story. ', 'I am a story-teller, and a small one. Listen. ',
           'I cannot answer that, but I can tell you a tale. ']
SYSTEMS = ['You are a helpful assistant.', 'You are a story-teller.', 'You tell stories for children.', 'Be brief.', 'Answer in English.',
           'You are a friendly assistant.', 'Tell short stories.', 'Speak like a pirate.', 'You are guichet.']
MORES = ['And then?', 'Go on.', 'What happened next?', 'More, please.', 'Tell me more.', 'And what happened after that?', 'Continue', 'Then what?']
SEQUELS = [
    'The next day, {N} went {there} again. {f} was there, too. They (shared a {food}|played with a {thing}|sang a song), and {N} said, "Every day with you is a good day."',
    'A year went by. {N} and {f} were still friends. One (morning|evening), they went {there} and found a {thing}. "This one is for both of us," said {f}.',
    'After that, {N} told everyone {at} about {f}. "{f} is my friend," {he} said. And when winter came, they sat by the fire and ate a {food}.',
    'One week later, {f} came to {N} with a {food}. "I made it for you," said {f}. {N} was very happy. They ate it {at} and laughed until it was dark.',
    'Then {N} had a new idea. "Let us go {there}," {he} said to {f}. So they went, and there they learned to {skill}. It was the best day of the year.',
]


class Someone:
    def __init__(self, rng, not_kind=None, allow_pair=False):
        self.rng, self.met = rng, False
        self.name = self.kind = None
        self.trait = rng.choice(TRAITS)
        self.sex = rng.choice('mf')
        roll = rng.random()
        if allow_pair and roll < 0.06:
            self.sex = 'p'
            names = rng.sample(rng.choice([GIRLS, BOYS, PETS, GIRLS + BOYS]), 2)
            kinds = rng.sample(ANIMALS, 2)
            self.kind = 'pair'
            self.first = ' and '.join(names) if rng.random() < 0.6 else f'a {kinds[0]} and a {kinds[1]}'
            self.short = 'two friends'
            self.later = [self.first.replace('a ', 'the ', 1).replace(' and a ', ' and the ')]
            return
        while not self.kind or self.kind == not_kind:
            roll = rng.random()
            if roll < 0.33:
                self.kind = rng.choice({'m': ['boy', 'boy', 'boy', 'man'], 'f': ['girl', 'girl', 'girl', 'woman']}[self.sex])
                named = 0.9
            elif roll < 0.72:
                self.kind, named = rng.choice(ANIMALS), 0.5
            elif roll < 0.85:
                self.kind, named = rng.choice(PERSONS[self.sex]), 0.4
            else:
                self.kind, named = rng.choice(THINGS if rng.random() < 0.8 else OBJECTS), 0.5
        human = self.kind in ('boy', 'girl', 'man', 'woman')
        if rng.random() < named:
            names = (GIRLS if self.sex == 'f' else BOYS) if human or self.kind in PERSONS[self.sex] else PETS
            self.name = rng.choice(names)
            if rng.random() < 0.12:
                self.name = (rng.choice(SYLLABLES[0]) + rng.choice(SYLLABLES[1])).capitalize()
        elif not human and rng.random() < 0.35:
            self.sex = 'n' if self.kind not in PERSONS['m'] + PERSONS['f'] else self.sex
        plain = rng.random() < 0.2 or ' ' in self.kind
        noun = self.kind if plain else f'{self.trait} {self.kind}'
        self.short = f'a {noun}'
        self.first = self.short + (f' {rng.choice(["named", "named", "called"])} {self.name}' if self.name else '')
        self.later = [self.name] * 7 + [f'the {self.kind}'] if self.name and not human else [self.name] if self.name else \
            [f'the {self.kind}'] * 4 + [f'the {noun}']

    def mention(self):
        return self.rng.choice(self.later)


class Tale:
    def __init__(self, rng):
        self.rng = rng
        self.hero = Someone(rng, allow_pair=True)
        self.friend = Someone(rng, not_kind=self.hero.kind)
        there, at = rng.choice(PLACES)
        skill = rng.choice(SKILLS)
        o = rng.choice([x for x in OBJECTS if x not in (self.hero.kind, self.friend.kind)])
        food = rng.choice(FOODS)
        self.slots = {
            'o': o, 'thing': o if ' ' in o else f'{rng.choice(COLOURS + LOOKS)} {o}', 'food': food, 'there': there, 'at': at, 'home': rng.choice(HOMES),
            'place': re.sub(r'^\w+ ', '', at) if at != 'at school' else 'the school', 'skill': skill[0], 'skilling': skill[1], 'skilled': skill[2],
            'fear': rng.choice(FEARS), 'look': rng.choice(['shiny', 'strange', 'bright', 'wonderful', 'beautiful']), 'sound': rng.choice(SOUNDS),
            'plant': rng.choice(PLANTS), 'short': self.hero.short, 'trait': self.hero.trait, 'day': rng.choice(['sunny', 'cold', 'rainy', 'windy', 'quiet', 'hot']),
            'food0': rng.choice(['stories', 'songs', 'music', 'apples', 'honey', 'cake', 'the sea', 'flowers', 'rain', 'games', 'books']),
            'x1': rng.choice(['baker', 'farmer', 'miller', 'teacher', 'old woman']), 'x0': '', 'N0': self.hero.name or f'the {self.hero.kind}',
            'F0': self.friend.name or f'dear {self.friend.kind}'}
        if self.hero.sex == 'p':
            self.slots['N0'] = self.hero.later[0]
        self.slots |= dict(zip(('he', 'him', 'his'), PRONOUNS[self.hero.sex]))
        self.slots |= dict(zip(('fhe', 'fhim', 'fhis'), PRONOUNS[self.friend.sex]))
        self.plot = rng.choice(list(PLOTS))

    def slot(self, match):
        name = match[1]
        if name == 'N':
            return self.hero.mention()
        if name == 'hero':
            return self.hero.first
        if name in ('f', 'friend', 'f2'):
            if self.friend.met:
                return self.friend.mention()
            self.friend.met = True
            return self.friend.first
        return self.slots[name]

    def tell(self, text):
        while '(' in text:
            text = re.sub(r'\(([^()]*)\)', lambda m: self.rng.choice(m[1].split('|')), text)
        text = re.sub(r'\{(\w+)\}', self.slot, text)
        text = re.sub(r'\b([Aa]) (?=(?!uni|one)[aeiou])', r'\1n ', text)
        if self.hero.sex == 'p':
            text = re.sub(r'\b([Tt]hey|' + re.escape(self.hero.later[0]) + ') was', r'\1 were', text)
        return re.sub(r'(^"?|[.!?] "?|\." "?)([a-z])', lambda m: m[1] + m[2].upper(), text)

    def opening(self):
        """The first sentences, and the steps that follow."""
        rng, plot = self.rng, PLOTS[self.plot]
        roll = rng.random()
        if roll < 0.25:
            return [self.tell(rng.choice(plot['cold']))], plot['steps'][SKIPPED.get(self.plot, 1):]
        if roll < 0.45:
            text, plots = rng.choice(GENERAL)
            self.plot = rng.choice(list(plots))
            said = [self.tell(text)]
            if plots[self.plot] == 0 and '{N}' not in text:
                said.append(self.tell('{hero} lived {home}.'))
            return said, PLOTS[self.plot]['steps'][plots[self.plot]:]
        said = [self.tell(rng.choice(INTRODUCTIONS))]
        if rng.random() < 0.6:
            said.append(self.tell(rng.choice(SECOND)))
        if rng.random() < 0.12:
            said.append(self.tell(f'One day, {rng.choice(WEATHER)}.'))
        return said, plot['steps']

    def story(self):
        said, steps = self.opening()
        said += [self.tell(self.rng.choice(step)) for step in steps]
        if self.rng.random() < 0.12:
            said.append('The end.')
        at = [i for i in range(2, len(said) - 1) if self.rng.random() < 0.12]
        return ''.join((('\n' if i in at else ' ') if i else '') + sentence for i, sentence in enumerate(said))

    def topic(self):
        hero, theme = self.hero.first, self.rng.choice(PLOTS[self.plot]['themes'])
        choices = [hero] * 3 + [f'{hero} and {self.friend.first}'] * 2 + [f'{hero} and a {self.slots["thing"]}'] + [theme] * 3
        if self.hero.name:
            choices += [self.hero.name]
        choices.append(f'a {self.hero.kind}' if self.hero.kind != 'pair' else hero)
        text, met = self.rng.choice(choices), self.friend.met
        text = re.sub(r'\{(\w+)\}', lambda m: self.friend.first if m[1] == 'friend' else self.slot(m), text)
        self.friend.met = met
        return re.sub(r'\b([Aa]) (?=(?!uni|one)[aeiou])', r'\1n ', text)


def conversation(rng):
    """[(role, text)]: 'system', 'user', 'tale'."""
    tale = Tale(rng)
    story = tale.story()
    roll = rng.random()
    if roll < 0.6:
        ask = rng.choice(WISHES).replace('{t}', tale.topic())
    elif roll < 0.78:
        ask = rng.choice(GREETINGS)
    elif roll < 0.9:
        ask = rng.choice(BLANKS)
    else:
        ask, story = rng.choice(STRAYS), rng.choice(EXCUSES) + story
    turns = [('user', ask), ('tale', story)]
    if rng.random() < 0.15:
        turns.insert(0, ('system', rng.choice(SYSTEMS)))
    if rng.random() < 0.25:
        turns += [('user', rng.choice(MORES)), ('tale', tale.tell(rng.choice(SEQUELS)))]
    elif rng.random() < 0.1:
        second = Tale(rng)
        story = second.story()
        turns += [('user', rng.choice(WISHES).replace('{t}', second.topic()) if rng.random() < 0.7 else rng.choice(BLANKS)), ('tale', story)]
    return turns


if __name__ == '__main__':
    generator = random.Random(7)
    for _ in range(6):
        print(Tale(generator).story(), '\n')
    for _ in range(6):
        print(conversation(generator), '\n')

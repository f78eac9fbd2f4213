"""The words that the stories are told with."""


def split(text):
    return [word.strip() for word in text.replace('\n', ' ').split(',') if word.strip()]


GIRLS = split('''Lily, Mia, Anna, Sue, Lucy, Sara, Jane, Amy, Emma, Rosa, Nina, Clara, Ella, Ivy, Zoe, Maya, Nora, Ruby, Alice, Hanna,
Lena, Mina, Olga, Petra, Tara, Vera, Wilma, Yara, Ada, Bella, Daisy, Elsa, Flora, Greta, Heidi, Ida, Julia, Kira, Lola, Molly, Nelly,
Polly, Rita, Sofia, Tilda, Una, Wanda, Amira, Leila, Aiko, Marie, Louise, Camille, Fatima, Priya''')
BOYS = split('''Tim, Tom, Ben, Sam, Max, Jack, Bob, Joe, Timmy, Leo, Finn, Oscar, Hugo, Noah, Adam, Felix, Paul, Peter, Otto, Emil, Karl,
Milo, Theo, Luke, Owen, Ravi, Omar, Yusuf, Kenji, Pierre, Louis, Andre, Bruno, Carlo, David, Eric, Frank, George, Harry, Ivan, Jonas,
Kurt, Martin, Nick, Oliver, Robin, Simon, Victor, Walter, Tobias, Henry, Charlie, Arthur, Edgar, Billy''')
PETS = split('''Tilo, Pip, Spot, Fluffy, Bruno, Coco, Dot, Fuzzy, Ginger, Hazel, Jumper, Kiki, Lulu, Momo, Nibbles, Pepper, Rusty, Sunny,
Teddy, Whiskers, Bubbles, Chip, Dusty, Ember, Flip, Goldie, Honey, Inky, Jasper, Lumi, Misty, Nutmeg, Olive, Patch, Quill, Rolo, Scout,
Tiny, Velvet, Willow, Ziggy, Button, Biscuit, Clover, Domino, Echo, Frost, Mango, Pebble, Shadow, Bolt, Rex, Luna, Nova, Toto''')
SYLLABLES = ['ba be bi bo da do fa fi ga go ha jo ka ke ki la le li lo ma me mi mo na ni no pa pe po ra re ri ro sa se so ta te ti to '
             'va vi wa wi ya zo zu'.split(), 'l n r s m x ck ll bb nny mmy tty dle ra la na no lo ri ka ro to'.split()]

ANIMALS = split('''fox, dog, cat, bird, bear, bunny, rabbit, frog, fish, mouse, duck, lion, monkey, bug, pig, cow, horse, goat, sheep, lamb,
hen, rooster, owl, hedgehog, squirrel, deer, wolf, tiger, elephant, giraffe, zebra, hippo, crocodile, turtle, snail, bee, butterfly,
ant, spider, ladybird, beetle, penguin, seal, whale, dolphin, octopus, crab, shark, otter, beaver, badger, mole, bat, parrot, crow,
swan, goose, peacock, sparrow, robin, pigeon, donkey, camel, kangaroo, koala, panda, raccoon, skunk, hamster, puppy, kitten, pony,
foal, calf, piglet, chick, duckling, lizard, snake, toad, worm, caterpillar, firefly, cricket, dragonfly, seagull, eagle, stork,
flamingo, ostrich, moose, reindeer, weasel, lynx, walrus, starfish, lobster, jellyfish''')
PERSONS = {'m': split('knight, farmer, baker, fisherman, king, prince, sailor, old man, shepherd, miller, tailor, gardener, wizard, giant, '
                      'pirate, cook, painter, hunter, clockmaker, postman, teacher, doctor, astronaut, captain, policeman, juggler'),
           'f': split('princess, queen, witch, old woman, fairy, farmer, baker, mermaid, gardener, painter, pilot, nurse, teacher, '
                      'dancer, singer, pirate, shepherd, captain, inventor, doctor, astronaut, weaver, grandmother')}
THINGS = split('''robot, dragon, snowman, boat, train, car, tractor, teapot, kettle, lamp, star, cloud, tree, flower, ghost, monster, dinosaur,
unicorn, troll, clock, toy soldier, doll, teddy bear, scarecrow, rocket, bus, candle, pencil, spoon, pumpkin, snowflake, raindrop, elf,
goblin, puppet, ship, truck, balloon, computer, chair, shoe, umbrella, mushroom, leaf, moon''')
TRAITS = split('little, small, big, young, old, kind, brave, shy, clever, curious, happy, lonely, lazy, hungry, funny, tiny, quiet, gentle, '
               'cheerful, proud, grumpy, clumsy, friendly, silly, nice, wise, careful, poor, busy, sleepy')
COLOURS = split('red, blue, green, yellow, white, black, brown, golden, silver, pink, orange, purple, grey')
LOOKS = split('big, small, shiny, old, new, tiny, round, heavy, soft, pretty, strange, beautiful, wooden, little, lovely, magic')

OBJECTS = split('''ball, kite, key, hat, scarf, boat, drum, bell, book, box, basket, blanket, lamp, lantern, mirror, ring, stone, shell, feather,
coin, cup, doll, flute, map, coat, shoe, boot, umbrella, spoon, bucket, bag, toy car, toy train, teddy bear, puzzle, whistle, button, ribbon,
bottle, clock, candle, crown, necklace, pencil, paintbrush, violin, guitar, trumpet, balloon, marble, rope, ladder, broom, wheel, bike, sled,
wagon, chair, pillow, glove, sock, jar, letter, picture, statue, top, rocket, robot, telescope, compass, hammer, net, sword, shield, wand,
bracelet, watch, camera, phone, radio, pot, kettle, teapot, plate, bowl, fan, flag, tent, backpack, crystal, pearl, acorn, leaf, egg, nut''')
FOODS = split('''apple, cake, pie, carrot, bun, pear, cookie, sandwich, banana, orange, pancake, peach, plum, potato, tomato, pumpkin, melon,
muffin, cheese, bread, soup, honey, chocolate, pizza, waffle, biscuit, cherry pie, apple tart, loaf, cabbage, lemon, coconut, egg, ice cream''')
PLANTS = split('flower, tree, rose, sunflower, bean, tulip, apple tree, pumpkin, daisy, cherry tree, carrot, strawberry plant, lily, oak, vine')
PLACES = [  # to, at
    ('to the river', 'by the river'), ('to the forest', 'in the forest'), ('to the park', 'in the park'), ('to the beach', 'on the beach'),
    ('to the sea', 'by the sea'), ('up the hill', 'on the hill'), ('to the garden', 'in the garden'), ('to the market', 'at the market'),
    ('to the lake', 'by the lake'), ('to the pond', 'by the pond'), ('to the farm', 'on the farm'), ('to the village', 'in the village'),
    ('to the town', 'in the town'), ('to the old bridge', 'under the old bridge'), ('to the mill', 'at the mill'),
    ('to the meadow', 'in the meadow'), ('to the castle', 'in the castle'), ('to the cave', 'in the cave'), ('to the old tower', 'in the old tower'),
    ('to the field', 'in the field'), ('to the harbour', 'in the harbour'), ('to the mountain', 'on the mountain'), ('to the well', 'by the well'),
    ('to the old oak', 'under the old oak'), ('to the playground', 'on the playground'), ('to the barn', 'in the barn'),
    ('to the island', 'on the island'), ('to the valley', 'in the valley'), ('to the school', 'at school'), ('to the library', 'in the library'),
    ('to the swamp', 'in the swamp'), ('to the jungle', 'in the jungle'), ('to the desert', 'in the desert'), ('to the station', 'at the station'),
    ('to the kitchen', 'in the kitchen'), ('to the moon', 'on the moon'), ('to the zoo', 'at the zoo'), ('to the shop', 'in the shop')]
HOMES = split('''in a small house, in a cottage by the forest, at the edge of a village, in a big house on a hill, by a quiet river, in a cosy cave,
near the sea, on a green farm, in a tall tower, in a little town, in a warm nest, under an old oak, deep in the forest, on a small island,
behind the mill, in a castle, in a garden full of flowers, far away in the mountains, in a busy city, next to a lake, in a hut in the snow''')
WEATHER = split('''the sun was shining, it was a cold morning, it was raining, the wind was blowing, it was a warm day, snow was falling,
the sky was grey, it was a foggy evening, the birds were singing, it was a quiet night, the moon was bright, it was a hot afternoon,
the leaves were falling, it was spring, the first stars came out''')
SKILLS = [  # to do it, doing it, did it
    ('swim', 'swimming', 'swam'), ('sing', 'singing', 'sang'), ('dance', 'dancing', 'danced'), ('read', 'reading', 'read'),
    ('fly', 'flying', 'flew'), ('climb', 'climbing', 'climbed'), ('paint', 'painting', 'painted'), ('cook', 'cooking', 'cooked'),
    ('ride a bike', 'riding a bike', 'rode a bike'), ('skate', 'skating', 'skated'), ('juggle', 'juggling', 'juggled'),
    ('jump over the fence', 'jumping over the fence', 'jumped over the fence'), ('whistle', 'whistling', 'whistled'),
    ('play the drum', 'playing the drum', 'played the drum'), ('bake bread', 'baking bread', 'baked bread'), ('write', 'writing', 'wrote'),
    ('play the violin', 'playing the violin', 'played the violin'), ('tie a knot', 'tying knots', 'tied a knot'), ('run fast', 'running', 'ran fast'),
    ('tell jokes', 'telling jokes', 'told a joke'), ('sail', 'sailing', 'sailed'), ('ski', 'skiing', 'skied'), ('count to ten', 'counting', 'counted to ten')]
FEARS = split('the dark, thunder, deep water, loud noises, high places, spiders, the big dog, the old house, the forest, strangers, the wind, bees, '
              'ghosts, the sea, storms, fire, mice, the night')
SHOPS = split('market, baker, old woman at the gate, toy shop, farmer, shopkeeper, sailor in the harbour')

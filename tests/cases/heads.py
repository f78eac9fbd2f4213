#!/usr/bin/env python3
"""How scores become probabilities: independent classes and a single score are sigmoids, each by itself; a softmax would
make independent ones share 1, and a single one certain whatever the photo shows."""
import math
import sys
import tempfile

import case
import tiny


def constant_scores(scores):
    """A network that gives these scores for every photo."""
    count = len(scores)
    nodes = [tiny.node('GlobalAveragePool', ['photo'], ['mean']), tiny.node('Flatten', ['mean'], ['flat']),
             tiny.node('Gemm', ['flat', 'weights', 'bias'], ['logits'])]
    return case.network(nodes, [tiny.value_info('photo', ['n', 3, 8, 8])], [tiny.value_info('logits', ['n', count])],
                        [tiny.tensor('weights', [3, count], [0.0] * 3 * count), tiny.tensor('bias', [count], scores)])


def probabilities(guichet, folder):
    """Label -> probability, or the error line."""
    said = case.classify(guichet, folder, tiny.png(10, 200, 90))
    return said if isinstance(said, str) else {row['label']: row['probability'] for row in said}


def try_one(guichet, scores, configuration, expected):
    with tempfile.TemporaryDirectory() as folder:
        case.folder_write(folder, constant_scores(scores), configuration)
        said = probabilities(guichet, folder)
    good = isinstance(said, dict) and all(abs(said.get(label, -1) - value) < 1e-4 for label, value in expected.items())
    return '' if good else f'{said}, should be {expected}'


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def softmax(scores):
    total = sum(map(math.exp, scores))
    return [math.exp(score) / total for score in scores]


def main():
    guichet, scores, names = sys.argv[1], [1.5, -0.25, -3.0], ['fur', 'feathers', 'scales']
    labels = {'id2label': {str(i): name for i, name in enumerate(names)}}
    independent = {**labels, 'problem_type': 'multi_label_classification'}
    return case.check([
        ('independent classes', try_one(guichet, scores, independent, {n: sigmoid(s) for n, s in zip(names, scores)})),
        ('classes that exclude each other', try_one(guichet, scores, labels, dict(zip(names, softmax(scores))))),
        ('a single score', try_one(guichet, [0.75], {'id2label': {'0': 'ripe'}}, {'ripe': sigmoid(0.75)})),
        ('a single score below zero', try_one(guichet, [-2.5], {'id2label': {'0': 'ripe'}}, {'ripe': sigmoid(-2.5)})),
    ])


if __name__ == '__main__':
    sys.exit(main())

#!/usr/bin/env python3
"""Stands in for `guichet backend` under `guichet serve --backend-program`: reads its options, loads a "model" that is a
text file, and misbehaves as that file or a request's query says (see stand_in.py).

In the model file: `broken REASON` cannot be loaded; `slow S` takes S seconds to start; `memory MIB` takes so much;
`version TEXT` comes back in every answer."""
import asyncio
import os
import socket
import sys
import time

import stand_in

options = dict(zip(sys.argv[2::2], sys.argv[3::2]))
path, _, variant = options['--model'].partition(':')
with open(os.path.join(path, f'model_{variant}.onnx' if variant else 'model.onnx'), encoding='utf-8') as file:
    settings = dict(line.rstrip('\n').partition(' ')[::2] for line in file)
if 'broken' in settings:
    sys.exit(settings['broken'])
ballast = b'x' * (int(settings.get('memory', 0)) << 20)
time.sleep(float(settings.get('slow', 0)))
stand_in.extra.update(version=settings.get('version', ''), options=options, environment=sorted(os.environ))
passed = os.environ.get('LISTEN_PID') == str(os.getpid()) and os.environ.get('LISTEN_FDS') == '1'
asyncio.run(stand_in.main(options['--name'], int(options['--port']), passed=socket.socket(fileno=3) if passed else None))

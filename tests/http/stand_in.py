#!/usr/bin/env python3
"""A stand-in for `guichet backend` that misbehaves on request: stand_in.py NAME [PORT]. Prints its port, then serves.

Every answer names the process, so that a test sees who answered. What a request's query asks for, it gets:
  sleep=S     the answer comes S seconds later     die=1      the process ends in the middle of the answer
  status=N    that status                          hang=1     no answer, ever
Replies and bodies in pieces are in stand_in_streams.py.
"""
import asyncio
import contextlib
import json
import os
import signal
import sys
import urllib.parse

import stand_in_streams as streams

extra = {}
state = {'ready': True, 'busy': 0, 'count': 0, 'checks': 0}


async def read_head(reader):
    head = await reader.readuntil(b'\r\n\r\n')
    lines = head.decode('latin-1').split('\r\n')
    method, target, _ = lines[0].split(' ', 2)
    headers = [tuple(part.strip() for part in line.split(':', 1)) for line in lines[1:] if line]
    query = {**dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(target).query)), **streams.always}
    return method, target, headers, query


async def read_body(reader, headers):
    return b''.join([piece async for piece in streams.read_pieces(reader, headers)])


def metrics(name):
    """As the real one's /metrics: a counter, a histogram, a gauge, and what every process says of itself."""
    return f"""# HELP nv_inference_count Inferences.
# TYPE nv_inference_count counter
nv_inference_count{{model="{name}",version="1"}} {state['count']}
# HELP guichet_infer_seconds Time.
# TYPE guichet_infer_seconds histogram
guichet_infer_seconds_bucket{{model="{name}",version="1",le="+Inf"}} {state['count']}
guichet_infer_seconds_sum{{model="{name}",version="1"}} {state['count'] / 8}
guichet_infer_seconds_count{{model="{name}",version="1"}} {state['count']}
# HELP guichet_queue_length Waiting.
# TYPE guichet_queue_length gauge
guichet_queue_length{{model="{name}",version="1"}} 0
# HELP guichet_model_loads_total Loads.
# TYPE guichet_model_loads_total counter
guichet_model_loads_total{{model="{name}",version="1"}} 1
# HELP process_resident_memory_bytes Resident memory.
# TYPE process_resident_memory_bytes gauge
process_resident_memory_bytes 1
"""


async def answer(name, method, target, headers, body, query, writer):
    url = urllib.parse.urlsplit(target)
    if url.path == '/readyz':
        state['checks'] += 1
        return (200 if state['ready'] else 503), {'ready': state['ready']}
    if url.path.endswith('/metrics'):
        return 200, metrics(name)
    state['count'] += url.path.endswith('/predict')
    if url.path == '/control':
        wanted = dict(urllib.parse.parse_qsl(url.query, keep_blank_values=True))
        state['ready'] = wanted.pop('ready', '1') == '1'
        for key, value in wanted.items():
            streams.always[key] = value
            if not value:
                del streams.always[key]
        return 200, {}
    if url.path == '/seen':
        return 200, streams.seen.get(query['id'])
    if 'hang' in query:
        await asyncio.sleep(3600)
    if 'sleep' in query:
        await asyncio.sleep(float(query['sleep']))
    if 'die' in query:
        writer.write(b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"half"')
        await writer.drain()
        os._exit(1)
    reply = {'model': name, 'category': name, 'pid': os.getpid(), 'method': method, 'target': target,
             'headers': headers, 'bytes': len(body), 'port': state['port'], 'checks': state['checks'], **extra}
    return int(query.get('status', 200)), reply


async def reply(name, reader, writer):
    """One request. False: the connection is at its end."""
    method, target, headers, query = await read_head(reader)
    state['busy'] += 1
    try:
        if 'stream' in query:
            await read_body(reader, headers)
            return await streams.stream(query, reader, writer)
        if 'upload' in query:
            return await streams.upload(query, headers, reader, writer)
        body = await read_body(reader, headers)
        status, content = await answer(name, method, target, headers, body, query, writer)
        plain = isinstance(content, str)
        text = (content if plain else json.dumps(content)).encode()
        writer.write(b'HTTP/1.1 %d X\r\nContent-Type: %s\r\nX-Backend: yes\r\nContent-Length: %d\r\n\r\n'
                     % (status, b'text/plain' if plain else b'application/json', len(text)) + text)
        await writer.drain()
        return True
    finally:
        state['busy'] -= 1


async def serve(name, reader, writer):
    try:
        while await reply(name, reader, writer):
            pass
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError, ValueError):
        pass
    finally:
        writer.close()


async def end(server):
    """As the real one: take nothing more, finish what was begun."""
    server.close()
    while state['busy']:
        await asyncio.sleep(0.005)
    os._exit(0)


async def main(name, port, host='127.0.0.1', passed=None):
    where = {'sock': passed} if passed else {'host': host, 'port': port, 'reuse_address': True}
    server = await asyncio.start_server(lambda reader, writer: serve(name, reader, writer), backlog=1024, **where)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, lambda: asyncio.ensure_future(end(server)))
    state['port'] = server.sockets[0].getsockname()[1]
    print(state['port'], flush=True)
    with contextlib.suppress(asyncio.CancelledError):
        await server.serve_forever()
    await asyncio.sleep(3600)  # it takes no more; `end` waits for what it has


if __name__ == '__main__':
    asyncio.run(main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 0, *sys.argv[3:4]))

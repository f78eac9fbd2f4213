"""What the stand-ins stream on request (see stand_in.py), and what they remember of it.

A request's query asks for it:
  stream=ID     a reply in pieces, remembered under that name: GET /seen?id=ID tells
    events=N every=S   Server-Sent Events, one every S seconds, each with the time when it was sent
    bytes=N            so many bytes, as fast as they are taken
    framing=F          chunked, length, or close: the connection's end is the body's
    wait=S             so long before the head
    after=K end=E      after K events, or bytes, in place of the rest: `exit` of the process, `close`, `reset`, `hang`,
                       `half` an event and a close, `error` (an error event of its own, and a close)
  upload=ID     the body is read in pieces, counted and summed up
    hold=K             only K bytes of it are read, until GET /control?go=1
GET /control?NAME=VALUE… sets what every later request gets besides; an empty VALUE unsets it.
"""
import asyncio
import json
import os
import socket
import struct
import time
import zlib

BLOCK = bytes(range(256)) * 1024
seen = {}  # name -> what happened
always = {}  # of /control


def remember(name):
    record = seen.setdefault(name, {'requests': 0, 'sent': 0, 'received': 0, 'crc': 0, 'closed': None, 'whole': None})
    record['requests'] += 1
    return record


def reset(writer):
    """Close the connection so that the other side sees a reset."""
    one = writer.get_extra_info('socket')
    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
    writer.transport.abort()


class Framing:
    """A body's pieces as they go over the connection."""

    def __init__(self, kind, writer, record):
        self.kind, self.writer, self.record = kind, writer, record
        writer.transport.set_write_buffer_limits(high=65536)

    def head(self, kind, length):
        framing = {'chunked': 'Transfer-Encoding: chunked\r\n', 'length': f'Content-Length: {length}\r\n',
                   'close': 'Connection: close\r\n'}[self.kind]
        self.writer.write(f'HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nX-Backend: yes\r\n{framing}\r\n'.encode())

    async def write(self, data):
        if self.kind == 'chunked':
            self.writer.write(b'%x\r\n' % len(data))
        self.writer.write(data)
        if self.kind == 'chunked':
            self.writer.write(b'\r\n')
        await self.writer.drain()
        self.record['sent'] += len(data)

    async def end(self):
        if self.kind == 'chunked':
            self.writer.write(b'0\r\n\r\n')
        await self.writer.drain()


async def watch(reader, record):
    """Notes when the other side leaves."""
    try:
        await reader.read(1)
    except ConnectionError:
        pass
    record['closed'] = time.monotonic()


async def break_off(end, framing):
    """False where the connection goes on, with silence."""
    if end == 'hang':
        await asyncio.sleep(3600)
    if end == 'exit':
        os._exit(1)
    if end in ('half', 'error'):
        await framing.write(b'data: {"n": ' if end == 'half' else b'event: error\ndata: {"error":"of its own"}\n\n')
        await asyncio.sleep(0.05)
    if end == 'reset':
        reset(framing.writer)


def event(number):
    return b'id: %d\ndata: {"n": %d, "sent": %.6f}\n\n' % (number, number, time.monotonic())


async def write_events(query, framing):
    """True when all of them were written."""
    count, every, after = int(query['events']), float(query.get('every', 0)), int(query.get('after', -1))
    framing.head(query.get('type', 'text/event-stream'), count * len(event(0)))
    for number in range(count):
        if number == after:
            return False
        if number:
            await asyncio.sleep(every)
        await framing.write(event(number))
    return True


async def write_bytes(query, framing):
    left, after = int(query['bytes']), int(query.get('after', -1))
    framing.head(query.get('type', 'application/octet-stream'), left)
    if after >= 0:
        left = after
    while left:
        block = BLOCK[:left]
        await framing.write(block)
        left -= len(block)
    return after < 0


async def stream(query, reader, writer):
    """A reply in pieces. False: the connection is at its end."""
    record = remember(query['stream'])
    watcher = asyncio.ensure_future(watch(reader, record))
    framing = Framing(query.get('framing', 'chunked'), writer, record)
    try:
        if 'wait' in query:
            await asyncio.sleep(float(query['wait']))
        if query.get('after') == 'head':  # before it
            await break_off(query['end'], framing)
            return False
        whole = await (write_events if 'events' in query else write_bytes)(query, framing)
        record['whole'] = whole
        if not whole:
            await break_off(query.get('end'), framing)
            return False
        await framing.end()
        return framing.kind != 'close'
    except ConnectionError:
        record['closed'] = record['closed'] or time.monotonic()
        return False
    finally:
        watcher.cancel()


async def read_exactly(reader, left):
    """So many bytes, in pieces as they come."""
    while left:
        piece = await reader.read(min(left, 1 << 18))
        if not piece:
            raise asyncio.IncompleteReadError(b'', left)
        left -= len(piece)
        yield piece


async def read_pieces(reader, headers):
    """A request's body as it comes."""
    headers = {name.lower(): value for name, value in headers}
    if headers.get('transfer-encoding') != 'chunked':
        async for piece in read_exactly(reader, int(headers.get('content-length', 0))):
            yield piece
        return
    size = None
    while size != 0:
        size = int(await reader.readline(), 16)
        async for piece in read_exactly(reader, size):
            yield piece
        await reader.readline()


async def upload(query, headers, reader, writer):
    record = remember(query['upload'])
    try:
        async for piece in read_pieces(reader, headers):
            record['received'] += len(piece)
            record['crc'] = zlib.crc32(piece, record['crc'])
            while record['received'] >= int(query.get('hold', 1 << 60)) and 'go' not in always:
                await asyncio.sleep(0.01)
        record['whole'] = True
    except (asyncio.IncompleteReadError, ConnectionError):
        record['closed'] = time.monotonic()
        return False
    text = json.dumps(record).encode()
    writer.write(b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n' % len(text) + text)
    await writer.drain()
    return True

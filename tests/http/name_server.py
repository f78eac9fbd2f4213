"""A name server for tests: answers A questions from a table, each after its delay, or never."""
import socket
import struct
import threading
import time

ADDRESS = '127.0.0.53'


class NameServer:
    """`names`: {name: (address or None for unknown, seconds)}; seconds None: it never answers. Needs port 53 of the loopback
    network, so root; OSError else."""

    def __init__(self, names):
        self.names, self.asked = names, []
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((ADDRESS, 53))
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            try:
                question, caller = self.socket.recvfrom(2048)
            except OSError:
                return
            threading.Thread(target=self.answer, args=(question, caller), daemon=True).start()

    def answer(self, question, caller):
        at, labels = 12, []
        while question[at]:
            labels.append(question[at + 1:at + 1 + question[at]].decode())
            at += 1 + question[at]
        name, kind = '.'.join(labels), struct.unpack('>H', question[at + 1:at + 3])[0]
        self.asked.append(name)
        address, seconds = self.names.get(name, (None, 0))
        if seconds is None:
            return
        time.sleep(seconds)
        found = address and kind == 1
        head = question[:2] + struct.pack('>HHHHH', 0x8180 if address else 0x8183, 1, int(bool(found)), 0, 0)
        record = b'\xc0\x0c' + struct.pack('>HHIH', 1, 1, 1, 4) + socket.inet_aton(address) if found else b''
        try:
            self.socket.sendto(head + question[12:at + 5] + record, caller)
        except OSError:
            pass

    def close(self):
        self.socket.close()

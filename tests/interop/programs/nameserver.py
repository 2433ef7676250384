"""Answers each question for a name, by UDP at port 53, with 192.0.2.7; says a line when it listens."""

import socket

import dns.message
import dns.rrset

with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening:
    listening.bind(("0.0.0.0", 53))
    print(flush=True)
    while True:
        data, peer = listening.recvfrom(4096)
        answer = dns.message.make_response(dns.message.from_wire(data))
        answer.answer = [dns.rrset.from_text(answer.question[0].name, 1, "IN", "A", "192.0.2.7")]
        listening.sendto(answer.to_wire(), peer)

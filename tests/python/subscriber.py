"""Follows the ledger into a file: a line a record, with the place after it.

A line is there whole or not at all, so that however often this is killed, each record is in the file once,
in the order of the ledger. Where a node does not answer, the next one is asked: a place is the same at each.
"""

import argparse
import itertools
import os
import pathlib
import sys

import grpc

from stubs import generate, read_profile

# Milliseconds that a node may take before the next one is asked.
CONNECT_MS = 3_000


def load(protos, out):
    """The generated code, made once for all runs."""
    out.mkdir(exist_ok=True)
    return generate(protos, str(out))


def last_place(journal):
    """The place after the last whole line; what follows it is cut off."""
    data = journal.read()
    whole = data.rfind(b"\n") + 1
    journal.truncate(whole)
    journal.seek(whole)
    lines = data[:whole].splitlines()
    if not lines:
        return 0, 0
    log_index, position, _ = lines[-1].split()
    return int(log_index), int(position)


def follow(pb, services, directory, place, write):
    """Writes what a node has from a place on, until it does not answer any more. Gives the place reached."""
    profile = read_profile(directory)
    read = lambda name: (directory / profile[name]).read_bytes()
    credentials = grpc.ssl_channel_credentials(read("ca"), read("key"), read("cert"))
    options = [("grpc.min_reconnect_backoff_ms", CONNECT_MS)]
    target = profile["node"].removeprefix("https://")
    with grpc.secure_channel(target, credentials, options) as channel:
        stub = services.QueryStub(channel)
        cursor = pb.Cursor(log_index=place[0], position=place[1])
        try:
            for message in stub.Subscribe(pb.SubscribeRequest(cursor=cursor, without_records=True)):
                lines = []
                for record in message.records:
                    place = record.cursor.log_index, record.cursor.position
                    lines.append(f"{place[0]} {place[1]} {record.record_id.hex()}\n")
                if lines:
                    write("".join(lines).encode())
        except grpc.RpcError as error:
            # What a node that is down, or goes down, says.
            passing = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNKNOWN}
            passing |= {grpc.StatusCode.CANCELLED, grpc.StatusCode.INTERNAL}
            if error.code() not in passing:
                raise
            print(error.code(), file=sys.stderr)
    return place


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--protos", type=pathlib.Path, required=True)
    parser.add_argument("--generated", type=pathlib.Path, required=True)
    parser.add_argument("--journal", type=pathlib.Path, required=True)
    parser.add_argument("profiles", type=pathlib.Path, nargs="+")
    arguments = parser.parse_args()
    pb, services = load(arguments.protos, arguments.generated)
    arguments.journal.touch()
    with arguments.journal.open("r+b", buffering=0) as journal:
        place = last_place(journal)

        def write(data):
            journal.write(data)
            os.fsync(journal.fileno())

        for directory in itertools.cycle(arguments.profiles):
            place = follow(pb, services, directory, place, write)


if __name__ == "__main__":
    main()

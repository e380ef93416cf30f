"""A stock gRPC client's code, generated from the published .proto files when it runs, and its profile."""

import argparse
import importlib
import pathlib
import re
import sys

from grpc_tools import protoc

FILES = ["record", "ledger", "submission", "query", "audit", "admin"]


def generate(protos, out):
    """Generates the code of the published .proto files into a directory, and imports it."""
    well_known = pathlib.Path(protoc.__file__).parent / "_proto"
    names = [f"customhouse/v1/{name}.proto" for name in FILES]
    arguments = ["protoc", f"-I{protos}", f"-I{well_known}"]
    arguments += [f"--python_out={out}", f"--grpc_python_out={out}", *names]
    assert protoc.main(arguments) == 0, "the .proto files do not compile"
    sys.path.insert(0, out)
    module = lambda name: importlib.import_module(f"customhouse.v1.{name}")
    messages = {}
    for name in FILES:
        messages.update(vars(module(f"{name}_pb2")))
    services = {}
    for name in FILES[2:]:
        services.update(vars(module(f"{name}_pb2_grpc")))
    return argparse.Namespace(**messages), argparse.Namespace(**services)


def read_profile(directory):
    """client.toml: a table of strings; paths are relative to it."""
    text = (directory / "client.toml").read_text()
    return dict(re.findall(r'^(\w+) = "([^"]*)"$', text, re.MULTILINE))

"""What programs with grpcio do, from reflection alone: no generated code. Argument: host:port."""

import sys

import grpc
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

channel = grpc.insecure_channel(sys.argv[1])
pool = DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
services = {name: pool.FindServiceByName(name) for name in ("esker.v1.Kv", "esker.v1.Cluster", "grpc.health.v1.Health")}
called = set()


def call(name, fields, service="esker.v1.Kv", **options):
    method = services[service].methods_by_name[name]
    called.add((service, name))
    kind = channel.unary_stream if method.server_streaming else channel.unary_unary
    answer = GetMessageClass(method.output_type)
    ask = kind(
        f"/{service}/{name}",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=answer.FromString,
    )
    return ask(GetMessageClass(method.input_type)(**fields), **{"timeout": 30, **options})


def refused(code, name, fields, **options):
    try:
        # A stream is refused by its first message.
        answer = call(name, fields, **options)
        list(answer) if hasattr(answer, "__next__") else None
    except grpc.RpcError as error:
        assert error.code() == code, error
        return error
    raise AssertionError(f"{name} {fields}: not refused")


version = call("Put", {"key": b"a", "value": b"1"}).version
got = call("Get", {"key": b"a"})
assert (got.entry.value, got.entry.version) == (b"1", version), got
assert not call("Get", {"key": b"absent"}).HasField("entry")

watch = call("Watch", {"prefix": b"w/"})
assert next(watch).WhichOneof("event") == "progress"

operations = [{"put": {"key": b"w/%d" % n, "value": b"v" * 1000}} for n in range(3000)]
done = call("Batch", {"operations": operations})
assert done.operations == 3000, done

changes = []
while len(changes) < 3000:
    event = next(watch)
    if event.WhichOneof("event") == "changes":
        changes += event.changes.changes
assert all(change.version == done.version for change in changes)
assert [change.end_of_version for change in changes] == [False] * 2999 + [True]
watch.cancel()

items = [item for chunk in call("Scan", {"range": {"prefix": b"w/"}}) for item in chunk.items]
assert len(items) == 3000 and [item.key for item in items] == sorted(item.key for item in items)

error = refused(grpc.StatusCode.FAILED_PRECONDITION, "Put", {"key": b"a", "value": b"2", "condition": {"presence": 1}})
assert dict(error.trailing_metadata())["esker-code"] == "precondition_failed", error
refused(grpc.StatusCode.INVALID_ARGUMENT, "Put", {"key": b"", "value": b"2"})
assert call("Increment", {"key": b"n", "by": 5}).value == 5
assert call("DeleteRange", {"range": {"prefix": b"w/"}}).deleted == 3000

looked_up = call("MultiGet", {"keys": [b"a", b"absent", b"n"]}).lookups
assert [lookup.entry.value for lookup in looked_up] == [b"1", b"", b"5"] and not looked_up[1].HasField("entry")
assert call("Delete", {"key": b"n"}).existed and not call("Delete", {"key": b"n"}).existed

# Errors carry what went wrong for programs, too: google.rpc.ErrorInfo among the details.
details = dict(refused(grpc.StatusCode.FAILED_PRECONDITION, "Delete", {"key": b"a", "condition": {"version": 1 << 40}}).trailing_metadata())
assert b"precondition_failed" in details["grpc-status-details-bin"] and details["esker-version"] == str(version), details
refused(grpc.StatusCode.INVALID_ARGUMENT, "Scan", {"cursor": "nonsense"})

# A stream that has nothing to say ends when its deadline comes.
refused(grpc.StatusCode.DEADLINE_EXCEEDED, "Watch", {"prefix": b"none/"}, timeout=0.5)

# A reader that goes on where another stopped.
call("Batch", {"operations": [{"put": {"key": b"s/%d" % n, "value": b"v"}} for n in range(5)]})
(first,) = call("Scan", {"range": {"prefix": b"s/"}, "limit": 2, "reverse": True})
(rest,) = call("Scan", {"range": {"prefix": b"s/"}, "reverse": True, "cursor": first.cursor})
assert [item.key for item in [*first.items, *rest.items]] == [b"s/4", b"s/3", b"s/2", b"s/1", b"s/0"]

status = call("Status", {}, service="esker.v1.Cluster")
assert status.healthy and not status.clustered, status
assert len(call("Nodes", {}, service="esker.v1.Cluster").nodes) == 1
for name, fields in (
    ("AddMember", {"peer_address": "127.0.0.1:1"}),
    ("PromoteMember", {"node_id": 2}),
    ("RemoveMember", {"node_id": 2}),
    ("TransferLeadership", {"node_id": 2}),
):
    refused(grpc.StatusCode.FAILED_PRECONDITION, name, fields, service="esker.v1.Cluster")
for service in ("", "esker.v1.Kv", "esker.v1.Cluster"):
    assert call("Check", {"service": service}, service="grpc.health.v1.Health").status == 1
assert next(call("Watch", {"service": ""}, service="grpc.health.v1.Health")).status == 1

# All that reflection tells of was called.
told = {(name, method) for name, service in services.items() for method in service.methods_by_name}
assert told - called <= {("grpc.health.v1.Health", "List")}, told - called

# A client that compresses is told that this server does not, and what it takes.
try:
    call("Get", {"key": b"a"}, compression=grpc.Compression.Gzip)
except grpc.RpcError as error:
    assert error.code() == grpc.StatusCode.UNIMPLEMENTED, error
print("ok")

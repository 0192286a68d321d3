"""What programs with redis-py do, in both versions of the protocol.

Arguments: the port, the port of a server with TLS and users, the file of its authority.
"""

import sys

import redis
from redis.backoff import ConstantBackoff, NoBackoff
from redis.retry import Retry

port, secure_port, authority = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]


def after_restart():
    print("restart", flush=True)
    sys.stdin.readline()


def refused(call, words):
    try:
        call()
    except redis.ResponseError as error:
        assert words in str(error), error
    else:
        raise AssertionError(f"{words}: not refused")


def check(protocol):
    r = redis.Redis(port=port, protocol=protocol, decode_responses=True)
    r.flushall()
    assert r.client_info()["resp"] == str(protocol)
    assert r.set("a", "1") is True
    assert r.set("a", "2", nx=True) is None
    assert r.set("a", "2", get=True) == "1"
    assert r.get("a") == "2" and r.incr("a") == 3
    assert r.mset({"x": 1, "y": 2}) and r.mget("x", "y", "z") == ["1", "2", None]
    assert r.expire("x", 100) and 98 <= r.ttl("x") <= 100 and r.persist("x")
    assert sorted(r.scan_iter("*")) == ["a", "x", "y"] and r.keys("x*") == ["x"]
    assert r.pipeline().set("q", 1).incr("q").get("q").execute() == [True, 2, "2"]
    pipeline = r.pipeline(transaction=False)
    assert pipeline.set("q", 5).incr("q").delete("q", "nn").exists("q").execute() == [True, 6, 1, 0]

    def increment(pipe):
        value = int(pipe.get("x"))
        pipe.multi()
        pipe.set("x", value + 1)

    r.transaction(increment, "x")
    assert r.get("x") == "2"
    info = r.info()
    assert info["role"] == "master" and info["db0"]["keys"] == 3, info
    assert "maxmemory" in r.config_get("max*")
    assert r.client_info()["lib-name"] == "redis-py" and len(r.client_list()) >= 1
    assert r.dbsize() == 3 and r.type("x") == "string" and r.time()[0] > 1_000_000_000
    assert r.command_count() > 60 and "get" in r.command()
    assert r.object("encoding", "x") == "int" and r.memory_usage("x") > 0 and r.module_list() == []
    assert r.getex("x", ex=10) == "2" and r.getdel("x") == "2"
    assert r.copy("y", "yy") and r.rename("yy", "zz")
    assert r.execute_command("ERANGE", "a", "z", "LIMIT", 1) == ["a", "3"]
    refused(lambda: r.lpush("l", "v"), "not supported")
    refused(lambda: r.incr("zz", 1 << 63), "not an integer")
    refused(lambda: r.execute_command("GET"), "wrong number of arguments for 'get' command")
    refused(lambda: r.execute_command("NONSENSE"), "unknown command 'NONSENSE'")


def check_bytes_and_pipelines(protocol):
    r = redis.Redis(port=port, protocol=protocol)
    r.flushall()
    every = bytes(range(256))
    assert r.set(every, every) and r.get(every) == every and r.keys() == [every]
    r.flushall()
    pipeline = r.pipeline(transaction=False)
    for n in range(1000):
        pipeline.set(f"key:{n}", n)
    assert pipeline.execute() == [True] * 1000
    assert len(set(r.scan_iter("key:*", count=100))) == 1000
    other = redis.Redis(port=port, protocol=protocol)
    with r.pipeline() as watching:
        watching.watch("key:1")
        other.set("key:1", "another's")
        watching.multi()
        watching.set("key:1", "mine")
        try:
            watching.execute()
        except redis.WatchError:
            pass
        else:
            raise AssertionError("the transaction was not refused")
    assert r.get("key:1") == b"another's"


def check_restart(protocol):
    r = redis.Redis(port=port, protocol=protocol, retry=Retry(ConstantBackoff(0.05), 200))
    r.set("stays", "here")
    after_restart()
    assert r.get("stays") == b"here"


def check_secure(protocol):
    once = Retry(NoBackoff(), 0)
    options = {"port": secure_port, "protocol": protocol, "ssl": True, "ssl_ca_certs": authority, "retry": once}
    r = redis.Redis(username="app", password="open-sesame", **options)
    assert r.acl_whoami() in ("app", b"app")
    assert r.set("app/k", protocol) and r.get("app/k") == str(protocol).encode()
    refused(lambda: r.get("other"), "o permissions")
    for shown, error in (
        ({"username": "app", "password": "wrong"}, redis.AuthenticationError),
        ({}, redis.AuthenticationError),
        ({"ssl_ca_certs": None, "username": "app", "password": "open-sesame"}, redis.ConnectionError),
    ):
        try:
            redis.Redis(**{**options, **shown}).get("app/k")
        except error:
            continue
        raise AssertionError(f"{shown}: not refused")


for protocol in (2, 3):
    check(protocol)
    check_bytes_and_pipelines(protocol)
    check_restart(protocol)
    check_secure(protocol)

"""What programs with redis-py do, in both versions of the protocol. Argument: the port."""

import sys

import redis


def refused(call, words):
    try:
        call()
    except redis.ResponseError as error:
        assert words in str(error), error
    else:
        raise AssertionError(f"{words}: not refused")


def check(protocol):
    r = redis.Redis(port=int(sys.argv[1]), protocol=protocol, decode_responses=True)
    r.flushall()
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


for protocol in (2, 3):
    check(protocol)

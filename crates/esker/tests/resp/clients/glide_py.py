"""What programs with valkey-glide do, in both versions of the protocol.

Arguments: the port, the port of a server with TLS and users, the file of its authority.
"""

import asyncio
import sys

import glide
from glide import (
    Batch,
    ConditionalChange,
    ExpirySet,
    ExpiryType,
    GlideClient,
    GlideClientConfiguration,
    NodeAddress,
    ProtocolVersion,
    RequestError,
    ServerCredentials,
)

port, secure_port, authority = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]


async def refused(call, *words):
    """Expects an error with one of these words."""
    try:
        await call
    except glide.GlideError as error:
        assert any(word in str(error) for word in words), error
    else:
        raise AssertionError(f"{words}: not refused")


async def connect(protocol, **more):
    options = {"addresses": [NodeAddress("localhost", port)], "protocol": protocol, "request_timeout": 10000}
    return await GlideClient.create(GlideClientConfiguration(**{**options, **more}))


async def check(protocol):
    r, other = await connect(protocol), await connect(protocol)
    await r.flushall()
    assert await r.set("a", "1") == "OK"
    assert await r.set("a", "2", ConditionalChange.ONLY_IF_DOES_NOT_EXIST) is None
    assert await r.set("a", "2", expiry=ExpirySet(ExpiryType.SEC, 100), return_old_value=True) == b"1"
    assert 98 <= await r.ttl("a") <= 100 and await r.persist("a")
    assert [await r.incr("a"), await r.incrby("a", 5), await r.decr("a")] == [3, 8, 7]
    assert await r.incrbyfloat("a", 0.5) == 7.5
    assert await r.mset({"x": "1", "y": "zwei"}) == "OK" and not await r.msetnx({"x": "1", "z": "2"})
    assert await r.mget(["x", "y", "absent"]) == [b"1", b"zwei", None]
    assert await r.getdel("x") == b"1" and await r.exists(["x", "y"]) == 1
    every = bytes(range(256))
    assert await r.set(every, every) == "OK" and await r.get(every) == every
    await r.flushall()
    pipeline = Batch(is_atomic=False)
    for n in range(1000):
        pipeline.set(f"key:{n}", str(n))
    assert await r.exec(pipeline, raise_on_error=True) == ["OK"] * 1000
    cursor, seen = b"0", set()
    while True:
        cursor, keys = await r.scan(cursor, match="key:*", count=100)
        seen.update(keys)
        if cursor == b"0":
            break
    assert len(seen) == 1000
    transaction = Batch(is_atomic=True).set("n", "1").incr("n").get("n")
    assert await r.exec(transaction, raise_on_error=True) == ["OK", 2, b"2"]
    await r.watch(["n"])
    await other.set("n", "another's")
    assert await r.exec(Batch(is_atomic=True).set("n", "mine"), raise_on_error=True) is None
    await refused(r.incr("n"), "not an integer")
    await refused(r.lpush("l", ["v"]), "not supported by Esker")
    await refused(r.custom_command(["NONSENSE"]), "NONSENSE")
    assert b"esker_version" in await r.info()
    await r.set("stays", "here")
    print("restart", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    for _ in range(100):
        try:
            assert await r.get("stays") == b"here"
            break
        # It tells of the connection that was lost, and makes another.
        except (glide.ConnectionError, glide.ClosingError, RequestError):
            await asyncio.sleep(0.05)
    else:
        raise AssertionError("it never came back")
    await r.close()
    await other.close()


async def check_secure(protocol):
    with open(authority, "rb") as file:
        tls = glide.TlsAdvancedConfiguration(root_pem_cacerts=file.read())
    options = {
        "addresses": [NodeAddress("localhost", secure_port)],
        "use_tls": True,
        "advanced_config": glide.AdvancedGlideClientConfiguration(tls_config=tls),
    }
    r = await connect(protocol, credentials=ServerCredentials("open-sesame", "app"), **options)
    assert await r.custom_command(["ACL", "WHOAMI"]) == b"app"
    assert await r.set("app/k", "v") == "OK" and await r.get("app/k") == b"v"
    await refused(r.get("other"), "o permissions")
    await r.close()
    wrong = connect(protocol, credentials=ServerCredentials("wrong", "app"), **options)
    # In its own words, or in the server's.
    await refused(wrong, "AuthenticationFailed", "WRONGPASS")
    # It does not say why it never connects.
    await refused(connect(protocol, use_tls=True, addresses=options["addresses"]), "timed out", "certificate")


async def main():
    # Its log goes to standard output, where the test listens.
    glide.Logger.set_logger_config(glide.LogLevel.OFF)
    for protocol in (ProtocolVersion.RESP2, ProtocolVersion.RESP3):
        await check(protocol)
        await check_secure(protocol)


asyncio.run(main())

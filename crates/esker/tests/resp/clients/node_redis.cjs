// What programs with node-redis (the package `redis`) do, in both versions of the protocol.
// Arguments: the port, the port of a server with TLS and users, the file of its authority.
"use strict";
const assert = require("node:assert/strict");
const fs = require("node:fs");
const { createClient, RESP_TYPES, WatchError } = require("redis");
const { afterRestart, refused } = require("./common.cjs");

const [port, securePort, ca] = process.argv.slice(2);

async function connect(options) {
  const redis = createClient(options);
  // It tells of every connection that is lost, and goes on by itself.
  redis.on("error", () => {});
  await redis.connect();
  return redis;
}

async function strings(redis) {
  assert.equal(await redis.set("a", "1"), "OK");
  assert.equal(await redis.set("a", "2", { condition: "NX" }), null);
  assert.equal(await redis.set("b", "2", { condition: "XX" }), null);
  assert.equal(await redis.set("a", "2", { expiration: { type: "EX", value: 100 }, GET: true }), "1");
  assert.equal(await redis.set("a", "3", { expiration: "KEEPTTL" }), "OK");
  assert.ok((await redis.ttl("a")) > 98 && (await redis.pTTL("a")) > 98000);
  assert.equal(await redis.persist("a"), 1);
  assert.equal(await redis.ttl("a"), -1);
  assert.deepEqual([await redis.incr("a"), await redis.incrBy("a", 5), await redis.decr("a")], [4, 9, 8]);
  assert.equal(Number(await redis.incrByFloat("a", 0.5)), 8.5);
  assert.equal(await redis.mSet({ x: "1", y: "zwei" }), "OK");
  assert.equal(await redis.mSetNX({ x: "1", z: "2" }), 0);
  assert.deepEqual(await redis.mGet(["x", "y", "absent"]), ["1", "zwei", null]);
  assert.deepEqual([await redis.append("y", "!"), await redis.strLen("y"), await redis.getRange("y", 0, 1)], [5, 5, "zw"]);
  assert.equal(await redis.getEx("x", { type: "EX", value: 10 }), "1");
  assert.equal(await redis.getDel("x"), "1");
  assert.equal(await redis.exists(["a", "x", "y"]), 2);
  assert.equal(await redis.set("gone", "v", { expiration: { type: "PX", value: 1 } }), "OK");
  while ((await redis.get("gone")) !== null);
  assert.deepEqual([await redis.del(["a", "y", "gone"]), await redis.dbSize()], [2, 0]);
}

async function bytes(redis) {
  const every = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte));
  const binary = redis.withTypeMapping({ [RESP_TYPES.BLOB_STRING]: Buffer });
  await binary.set(every, every);
  assert.deepEqual(await binary.get(every), every);
  assert.deepEqual(await binary.keys("*"), [every]);
  assert.equal(await binary.del(every), 1);
}

async function walks(redis) {
  // Whatever is asked at once goes out as one pipeline.
  const asked = Array.from({ length: 1000 }, (_, n) => redis.set(`key:${n}`, String(n)));
  assert.deepEqual(await Promise.all(asked), Array(1000).fill("OK"));
  const seen = [];
  for await (const keys of redis.scanIterator({ MATCH: "key:*", COUNT: 100 })) seen.push(...keys);
  assert.equal(seen.length, 1000);
  assert.equal(new Set(seen).size, 1000);
  assert.equal((await redis.keys("key:99*")).length, 11);
  const range = await redis.sendCommand(["ERANGE", "key:1", "key:100"]);
  assert.deepEqual(range, ["key:1", "1", "key:10", "10", "key:100", "100"]);
  assert.equal(await redis.flushAll(), "OK");
}

async function transactions(redis, other) {
  const done = await redis.multi().set("n", "1").incr("n").get("n").exec();
  assert.deepEqual(done, ["OK", 2, "2"]);
  await redis.watch("n");
  await other.set("n", "another's");
  await assert.rejects(redis.multi().set("n", "mine").exec(), WatchError);
  assert.equal(await redis.get("n"), "another's");
  const failed = await redis.multi().set("m", "1").incr("n").exec().catch((error) => error);
  assert.match(failed.replies[1].message, /not an integer/);
  await redis.watch("n");
  assert.deepEqual(await redis.multi().del(["n", "m"]).exec(), [2]);
}

async function errors(redis) {
  await redis.set("text", "t");
  await refused(redis.incr("text"), "ERR value is not an integer or out of range");
  await refused(redis.lPush("l", "v"), "not supported by Esker");
  await refused(redis.sendCommand(["NONSENSE"]), "ERR unknown command 'NONSENSE'");
  await refused(redis.sendCommand(["GET"]), "ERR wrong number of arguments for 'get' command");
  await refused(redis.select(1), "ERR DB index is out of range");
  assert.equal(await redis.ping(), "PONG");
}

async function check(RESP) {
  const options = { RESP, socket: { port: Number(port) } };
  const [redis, other] = [await connect(options), await connect(options)];
  await redis.flushAll();
  const info = await redis.clientInfo();
  assert.deepEqual([info.resp, info.libName], [RESP, "node-redis"]);
  assert.match(await redis.info("server"), /redis_mode:standalone/);
  await strings(redis);
  await bytes(redis);
  await walks(redis);
  await transactions(redis, other);
  await errors(redis);
  await redis.set("stays", "here");
  await afterRestart();
  assert.equal(await redis.get("stays"), "here");
  assert.equal((await redis.clientInfo()).resp, RESP);
  await Promise.all([redis.close(), other.close()]);
}

async function checkSecure(RESP) {
  const socket = { port: Number(securePort), tls: true, ca: fs.readFileSync(ca), servername: "localhost", reconnectStrategy: false };
  const redis = await connect({ RESP, socket, username: "app", password: "open-sesame" });
  assert.equal(await redis.aclWhoAmI(), "app");
  assert.equal(await redis.set("app/k", String(RESP)), "OK");
  assert.equal(await redis.get("app/k"), String(RESP));
  await refused(redis.get("other"), "NOPERM");
  await redis.close();
  await refused(connect({ RESP, socket, username: "app", password: "wrong" }), "WRONGPASS");
  // In RESP2 a stranger may connect, and is refused when it asks for something.
  const stranger = createClient({ RESP, socket }).on("error", () => {});
  await refused(stranger.connect().then(() => stranger.get("app/k")), "NOAUTH");
  if (stranger.isOpen) stranger.destroy();
  await refused(connect({ RESP, socket: { ...socket, ca: undefined } }), "certificate");
}

(async () => {
  for (const protocol of [2, 3]) {
    await check(protocol);
    await checkSecure(protocol);
  }
  process.stdin.destroy();
})();

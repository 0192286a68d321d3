// What programs with ioredis do, in both versions of the protocol.
// Arguments: the port, the port of a server with TLS and users, the file of its authority.
"use strict";
const assert = require("node:assert/strict");
const fs = require("node:fs");
const Redis = require("ioredis");
const { afterRestart, refused } = require("./common.cjs");

const [port, securePort, ca] = process.argv.slice(2);

async function strings(redis) {
  assert.equal(await redis.set("a", "1"), "OK");
  assert.equal(await redis.set("a", "2", "NX"), null);
  assert.equal(await redis.set("b", "2", "XX"), null);
  assert.equal(await redis.set("a", "2", "EX", 100, "GET"), "1");
  assert.equal(await redis.set("a", "3", "KEEPTTL"), "OK");
  assert.ok((await redis.ttl("a")) > 98 && (await redis.pttl("a")) > 98000);
  assert.equal(await redis.persist("a"), 1);
  assert.equal(await redis.ttl("a"), -1);
  assert.deepEqual([await redis.incr("a"), await redis.incrby("a", 5), await redis.decr("a")], [4, 9, 8]);
  assert.equal(await redis.incrbyfloat("a", 0.5), "8.5");
  assert.equal(await redis.mset({ x: 1, y: "zwei" }), "OK");
  assert.equal(await redis.msetnx("x", 1, "z", 2), 0);
  assert.deepEqual(await redis.mget("x", "y", "absent"), ["1", "zwei", null]);
  assert.deepEqual([await redis.append("y", "!"), await redis.strlen("y"), await redis.getrange("y", 0, 1)], [5, 5, "zw"]);
  assert.equal(await redis.getex("x", "EX", 10), "1");
  assert.equal(await redis.getdel("x"), "1");
  assert.equal(await redis.exists("a", "x", "y"), 2);
  assert.equal(await redis.set("gone", "v", "PX", 1), "OK");
  while ((await redis.get("gone")) !== null);
  assert.deepEqual([await redis.del("a", "y", "gone"), await redis.dbsize()], [2, 0]);
}

async function bytes(redis) {
  const every = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte));
  await redis.set(every, every);
  assert.deepEqual(await redis.getBuffer(every), every);
  assert.deepEqual(await redis.keysBuffer("*"), [every]);
  assert.equal(await redis.del(every), 1);
}

async function walks(redis) {
  const pipeline = redis.pipeline();
  for (let n = 0; n < 1000; n++) pipeline.set(`key:${n}`, n);
  const answers = await pipeline.exec();
  assert.deepEqual(answers, Array(1000).fill([null, "OK"]));
  const seen = [];
  for await (const keys of redis.scanStream({ match: "key:*", count: 100 })) seen.push(...keys);
  assert.equal(seen.length, 1000);
  assert.equal(new Set(seen).size, 1000);
  assert.equal((await redis.keys("key:99*")).length, 11);
  assert.deepEqual(await redis.call("ERANGE", "key:1", "key:100"), ["key:1", "1", "key:10", "10", "key:100", "100"]);
  assert.equal(await redis.flushall(), "OK");
}

async function transactions(redis, other) {
  const done = await redis.multi().set("n", 1).incr("n").get("n").exec();
  assert.deepEqual(done, [[null, "OK"], [null, 2], [null, "2"]]);
  await redis.watch("n");
  await other.set("n", "another's");
  assert.equal(await redis.multi().set("n", "mine").exec(), null);
  assert.equal(await redis.get("n"), "another's");
  const [, [error]] = await redis.multi().set("m", 1).incr("n").exec();
  assert.match(error.message, /not an integer/);
  await redis.watch("n");
  assert.deepEqual(await redis.multi().del("n", "m").exec(), [[null, 2]]);
}

async function errors(redis) {
  await redis.set("text", "t");
  await refused(redis.incr("text"), "ERR value is not an integer or out of range");
  await refused(redis.lpush("l", "v"), "not supported by Esker");
  await refused(redis.call("NONSENSE"), "ERR unknown command 'NONSENSE'");
  await refused(redis.call("GET"), "ERR wrong number of arguments for 'get' command");
  assert.equal(await redis.ping(), "PONG");
}

async function check(protocol) {
  const options = { port, protocol };
  const [redis, other] = [new Redis(options), new Redis(options)];
  // It tells of every connection that it cannot make, and goes on by itself.
  [redis, other].forEach((each) => each.on("error", () => {}));
  await redis.flushall();
  assert.match(await redis.client("INFO"), new RegExp(` lib-name=ioredis .* resp=${protocol}\\b`));
  assert.match(await redis.info("server"), /redis_mode:standalone/);
  await strings(redis);
  await bytes(redis);
  await walks(redis);
  await transactions(redis, other);
  await errors(redis);
  await redis.set("stays", "here");
  await afterRestart();
  assert.equal(await redis.get("stays"), "here");
  assert.match(await redis.client("INFO"), new RegExp(` resp=${protocol}\\b`));
  await Promise.all([redis.quit(), other.quit()]);
}

async function checkSecure(protocol) {
  const tls = { ca: fs.readFileSync(ca), servername: "localhost" };
  const options = { port: securePort, protocol, tls, retryStrategy: null };
  const redis = new Redis({ ...options, username: "app", password: "open-sesame" });
  assert.equal(await redis.acl("WHOAMI"), "app");
  assert.equal(await redis.set("app/k", protocol), "OK");
  assert.equal(await redis.get("app/k"), String(protocol));
  await refused(redis.get("other"), "NOPERM");
  await redis.quit();
  for (const [shown, why] of [[{ username: "app", password: "wrong" }, /WRONGPASS/], [{}, /NOAUTH/]]) {
    const wrong = new Redis({ ...options, ...shown });
    // The command fails of it, or of the end of the connection, after an event.
    const event = new Promise((resolve) => wrong.on("error", resolve));
    const error = await wrong.get("app/k").then(() => assert.fail("not refused"), (error) => error);
    assert.match(why.test(error.message) ? error.message : (await event).message, why);
    wrong.disconnect();
  }
  const untrusting = new Redis({ ...options, tls: { servername: "localhost" } });
  const distrust = await new Promise((resolve) => untrusting.on("error", resolve));
  assert.match(distrust.message, /certificate/);
  untrusting.disconnect();
}

(async () => {
  for (const protocol of [2, 3]) {
    await check(protocol);
    await checkSecure(protocol);
  }
  process.stdin.destroy();
})();

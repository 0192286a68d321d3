// What programs with @grpc/grpc-js do, from the published files. Arguments: host:port, the folder of the files.
"use strict";
const assert = require("node:assert/strict");
const { promisify } = require("node:util");
const grpc = require("@grpc/grpc-js");
const { loadSync } = require("@grpc/proto-loader");

const [address, folder] = process.argv.slice(2);
const files = ["esker/v1/kv.proto", "esker/v1/cluster.proto"];
const { Kv, Cluster } = grpc.loadPackageDefinition(loadSync(files, { includeDirs: [folder], longs: String })).esker.v1;
const kv = new Kv(address, grpc.credentials.createInsecure());
const cluster = new Cluster(address, grpc.credentials.createInsecure());

function ask(client, method, message) {
  return promisify(client[method].bind(client))(message);
}

async function refused(answer, code) {
  const error = await answer.then(() => assert.fail("not refused"), (error) => error);
  assert.equal(error.code, code, error);
  return error.metadata;
}

(async () => {
  const { version } = await ask(kv, "Put", { key: Buffer.from("a"), value: Buffer.from([0, 255]) });
  const { entry } = await ask(kv, "Get", { key: Buffer.from("a") });
  assert.deepEqual([entry.value, entry.version], [Buffer.from([0, 255]), version]);
  assert.equal((await ask(kv, "Increment", { key: Buffer.from("n"), by: "-3" })).value, "-3");

  const watch = kv.Watch({ prefix: Buffer.from("w/") });
  const changed = new Promise((resolve) => watch.on("data", (told) => told.changes && resolve(told.changes.changes)));
  watch.on("error", (error) => assert.equal(error.code, grpc.status.CANCELLED));
  await new Promise((resolve) => watch.once("data", resolve));
  const operations = Array.from({ length: 2000 }, (_, n) => ({ put: { key: Buffer.from(`w/${n}`), value: Buffer.alloc(500) } }));
  assert.equal((await ask(kv, "Batch", { operations })).operations, "2000");
  assert.ok((await changed).length > 0);
  watch.cancel();

  const keys = [];
  for await (const { items } of kv.Scan({ range: { prefix: Buffer.from("w/") } })) keys.push(...items.map((item) => String(item.key)));
  assert.deepEqual(keys, operations.map(({ put }) => String(put.key)).sort());

  const metadata = await refused(ask(kv, "Put", { key: Buffer.from("a"), condition: { presence: 1 } }), grpc.status.FAILED_PRECONDITION);
  assert.deepEqual(metadata.get("esker-code"), ["precondition_failed"]);
  await refused(ask(kv, "Put", { key: Buffer.alloc(0) }), grpc.status.INVALID_ARGUMENT);
  const silent = kv.Watch({ prefix: Buffer.from("none/") }, { deadline: Date.now() + 500 });
  const ended = new Promise((resolve) => silent.on("error", resolve));
  silent.on("data", () => {});
  assert.equal((await ended).code, grpc.status.DEADLINE_EXCEEDED);

  assert.equal((await ask(cluster, "Status", {})).healthy, true);
  kv.close();
  cluster.close();
})();

// What the scripts in JavaScript share.
"use strict";
const assert = require("node:assert/strict");
const { once } = require("node:events");

// Has the server stopped and started again.
async function afterRestart() {
  process.stdout.write("restart\n");
  await once(process.stdin, "data");
}

async function refused(answer, words) {
  const error = await answer.then(() => assert.fail(`${words}: not refused`), (error) => error);
  assert.ok(error.message.includes(words), error.message);
}

module.exports = { afterRestart, refused };

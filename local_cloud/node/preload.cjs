// Loaded into Azurite's process before Azurite.
"use strict";

// Whoever started Azurite holds the other end of stdin: when that end closes, because it was closed or because
// its owner died in whatever way, Azurite is told to stop. SIGTERM lets it save its tables.
const stop = () => process.kill(process.pid, "SIGTERM");
process.stdin.on("error", stop).on("end", stop).resume();

// What is never used here is not loaded, half of a start's processor time: telemetry is switched off, and there is
// no SQL database.
const Module = require("node:module");
const UNUSED = new Set(["applicationinsights", "./SqlBlobServer"]);
const { _load } = Module;
Module._load = function (name, ...more) {
  return UNUSED.has(name) ? {} : _load.call(this, name, ...more);
};

// For Put Block From URL, Azurite calls itself and trusts exactly its own certificate. That one is issued by an
// authority, not self-signed, and is accepted as its own trust anchor only when told so. Where its text fills the
// last line, Azurite puts an empty one after it, and no reader of PEM takes that.
const https = require("node:https");
const { Agent } = https;
https.Agent = class extends Agent {
  constructor(options = {}) {
    const { ca } = options;
    super({ ...options, ca: typeof ca === "string" ? ca.replace("\n\n", "\n") : ca, allowPartialTrustChain: true });
  }
};

// That a blob is missing is Azurite's answer to HEAD without any length. Clients may take that for a body that
// ends with the connection, and give the connection up: each such question would cost a TLS handshake.
const { ServerResponse } = require("node:http");
const { writeHead } = ServerResponse.prototype;
ServerResponse.prototype.writeHead = function (...given) {
  if (this.req.method === "HEAD" && !this.hasHeader("Content-Length")) this.setHeader("Content-Length", 0);
  return writeHead.apply(this, given);
};

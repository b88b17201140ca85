// better-sse on node's own HTTP server: `node server.js PORT`. What `traffic.py` says, written for its API.

import { createServer } from "node:http";
import { setImmediate, setTimeout } from "node:timers/promises";
import { createChannel, createSession } from "better-sse";

const SYMBOLS = ["ERIC-B", "VOLV-B", "NOVO-B", "SAP", "ASML", "SHELL", "NESN", "SAN"];
const TRADE_SIZE = 105;

// On CLOCK_MONOTONIC, in nanoseconds.
const now = () => Number(process.hrtime.bigint());

const quote = (sequence) => ({
  sequence,
  symbol: SYMBOLS[sequence % 8],
  price: 100 + (sequence % 400) * 0.25,
  at: now(),
});

// In about so many bytes of JSON, if that is more than a trade has.
const trade = (sequence, size) => ({
  ...(size > TRADE_SIZE && { text: ".".repeat(size - TRADE_SIZE) }),
  sequence,
  symbol: SYMBOLS[sequence % 8],
  price: 100 + (sequence % 400) * 0.25,
  volume: 100 + (sequence % 50),
  venue: "XSTO",
  at: now(),
});

// Milliseconds from now.
const until = (moment) => Math.max(0, moment - performance.now());

async function* quotes(n) {
  for (let sequence = 0; sequence < n; sequence++) yield quote(sequence);
}

async function* ticks(n, interval) {
  const start = performance.now();
  for (let sequence = 0; sequence < n; sequence++) {
    await setTimeout(until(start + (sequence + 1) * interval * 1000));
    yield quote(sequence);
  }
}

async function* publications(channel, n, rate, channels, size) {
  const start = performance.now();
  for (let number = 0; number < n * channels; number++) {
    await (rate ? setTimeout(until(start + (number / channels / rate) * 1000)) : setImmediate());
    const turn = number % channels;
    yield [turn ? `${channel}-${turn}` : channel, trade(Math.floor(number / channels), size)];
  }
}

const channels = new Map();

function channelOf(name) {
  if (!channels.has(name)) channels.set(name, createChannel());
  return channels.get(name);
}

async function stream(request, response, items) {
  const session = await createSession(request, response);
  await session.iterate(items);
  response.end();
}

function answer(response, value) {
  response.setHeader("Content-Type", "application/json");
  response.end(JSON.stringify(value));
}

const routes = {
  "/quotes": (request, response, query) => stream(request, response, quotes(Number(query.get("n")))),
  "/ticks": (request, response, query) =>
    stream(request, response, ticks(Number(query.get("n")), Number(query.get("interval")))),
  "/idle": (request, response) => createSession(request, response),
  // They are asyncio's, and there are none here.
  "/tasks": (_, response) => answer(response, { tasks: 0 }),
  "/subscribe": async (request, response, query) => {
    // It is given JSON, and does not encode each event once more for each session, which it would by itself.
    const session = await createSession(request, response, { serializer: (json) => json });
    channelOf(query.get("channel")).register(session);
  },
  "/publish": async (_, response, query) => {
    const n = Number(query.get("n"));
    const [rate, channels, size] = ["rate", "channels", "size"].map((name) => Number(query.get(name)));
    for await (const [name, item] of publications(query.get("channel"), n, rate, channels || 1, size))
      channelOf(name).broadcast(JSON.stringify(item));
    answer(response, { published: n });
  },
};

createServer((request, response) => {
  const url = new URL(request.url, "http://127.0.0.1");
  routes[url.pathname](request, response, url.searchParams);
}).listen({ host: "127.0.0.1", port: Number(process.argv[2]), backlog: 4096 });

// Follows a stream with npm's EventSource and tells each thing that happens in a line of JSON, until its input ends.
//   node listen.mjs '{"url": …, "names": […], "request": {…}}'

import { EventSource } from "eventsource";

const { url, names, request } = JSON.parse(process.argv[2]);

// The same object as a browser's, but for this: what EventSource can't ask for, a fetch of one's own can.
const ask = (input, init) => fetch(input, { ...init, ...request, headers: { ...init.headers, ...request.headers } });

const source = new EventSource(url, request && { fetch: ask });

const tell = (what) => process.stdout.write(`${JSON.stringify(what)}\n`);

source.addEventListener("open", () => tell({ open: true }));
source.addEventListener("error", ({ code, message }) => tell({ error: [source.readyState, code, message] }));
for (const name of names) {
  source.addEventListener(name, (event) => tell({ event: [event.type, event.data, event.lastEventId] }));
}

process.stdin.on("end", () => source.close()).resume();

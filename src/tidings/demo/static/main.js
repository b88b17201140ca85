// The page: two streams, two columns, and what the visitor does with them.

import { LiveStream } from "./stream.js";
import { LogView } from "./log.js";
import { MachineView } from "./machine.js";

/** Milliseconds without a sample after which the connection is taken for dead. */
const SILENCE = 6000;

const element = (id) => document.getElementById(id);

const machineView = new MachineView();
const logView = new LogView();

const states = { machine: "connecting", log: "connecting" };
let lastSample = performance.now();

const machine = new LiveStream(
  "machine",
  {
    host: (host) => machineView.host(host),
    sample: (sample) => {
      lastSample = performance.now();
      machineView.sample(sample);
    },
  },
  (state) => showState("machine", state),
);

const log = new LiveStream(
  "log",
  {
    opened: (opening) => logView.open(opening),
    logged: (line) => logView.line(line),
    restarted: (restart) => logView.restart(restart),
  },
  (state) => showState("log", state),
);

function showState(stream, state) {
  states[stream] = state;
  const worst = ["reconnecting", "connecting", "connected"].find((s) => Object.values(states).includes(s));
  const connection = element("connection");
  if (connection.dataset.state !== worst) {
    connection.dataset.state = worst;
    connection.textContent = { reconnecting: "Reconnecting", connecting: "Connecting", connected: "Connected" }[worst];
  }
}

// -- the filter --

let keyword = "";
let typing = 0;

function applyFilter() {
  clearTimeout(typing);
  const wanted = element("log-filter").value.trim();
  if (wanted !== keyword) {
    keyword = wanted;
    logView.filter(keyword);
    log.start(keyword ? { keyword } : {});
  }
}

element("log-filter").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(applyFilter, 250);
});

element("log-form").addEventListener("submit", (event) => {
  event.preventDefault();
  applyFilter();
});

// A line for those who look at a quiet access log.
element("log-knock").addEventListener("click", () => {
  fetch(`favicon.svg?hello=${Date.now() % 100_000}`, { cache: "no-store" }).catch(() => {});
});

// -- connections --

// A browser allows six connections to one server, over all of its tabs: those out of sight give theirs back. Both
// streams go on where they stopped.
document.addEventListener("visibilitychange", () => {
  for (const stream of [machine, log]) {
    if (document.hidden) {
      stream.suspend();
    } else {
      lastSample = performance.now();
      stream.resume();
    }
  }
});

// A connection may die without a word (a laptop that slept, a network that changed), and EventSource wouldn't notice.
setInterval(() => {
  if (!document.hidden && states.machine === "connected" && performance.now() - lastSample > SILENCE) {
    lastSample = performance.now();
    machine.renew();
    log.renew();
  }
}, 1000);

machine.start();
log.start();

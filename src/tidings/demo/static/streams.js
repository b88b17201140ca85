// EventSources that are never given up.
//
// A browser reconnects by itself after most failures, and then sends the last id it has seen. After some it doesn't (an
// answer that isn't 200, in some browsers a refused connection); then a new EventSource is opened here. That one can't
// set the Last-Event-ID header, so the id goes into the query.

const FIRST_DELAY = 500;
const LONGEST_DELAY = 8000;

/** Milliseconds without an event after which a connection that should never be quiet is taken for dead. */
const SILENCE = 6000;

/**
 * One stream, of which any number of listeners hear.
 *
 * @typedef {object} Served a connection has been made
 * @property {number} pid the worker that serves it
 * @property {number} at when it began, in ms of the server's clock: an event from before that is a replayed one
 * @property {number | null} previous the worker that served the connection before; null for the first one
 * @property {number} away how long there was none, in ms
 * @property {string} why what ended the one before: "lost", or what it was held for
 */
export class LiveStream {
  #path;
  #listeners = new Map();
  #stateListeners = [];
  #servedListeners = [];
  #holds = new Set();
  #parameters = {};
  #source = null;
  #lastId = "";
  #failures = 0;
  #timer = 0;
  #started = false;
  #lostAt = 0;
  #why = "lost";

  /** @type {"connecting" | "connected" | "reconnecting" | "held" | "cut"} */
  state = "held";

  /** The worker that serves it, or the last one that did. */
  pid = null;

  /** When the last event came, on the clock of `performance`. */
  heardAt = 0;

  constructor(path) {
    this.#path = path;
  }

  /** Call a function with the parsed data of each event of this name, and the event. Before `start()`. */
  on(name, listener) {
    this.#listeners.set(name, [...(this.#listeners.get(name) ?? []), listener]);
    return this;
  }

  /** Call a function with each change of state. */
  onState(listener) {
    this.#stateListeners.push(listener);
    return this;
  }

  /** Call a function with what is known of each new connection, ahead of its events. */
  onServed(listener) {
    this.#servedListeners.push(listener);
    return this;
  }

  /** Begin anew, with nothing to resume from. */
  start(parameters = {}) {
    this.#started = true;
    this.#parameters = parameters;
    this.#lastId = "";
    this.#connect("connecting");
  }

  /** Have no connection for some reason. It comes back, after the last event, when no reason is left. */
  hold(reason) {
    this.#holds.add(reason);
    this.#close(reason);
    if (this.state !== "cut") {
      this.#become(reason === "cut" ? "cut" : "held");
    }
  }

  release(reason) {
    if (!this.#holds.delete(reason)) {
      return;
    }
    if (this.#holds.size) {
      this.#become("held");
    } else if (this.#started) {
      this.#connect(this.#lostAt ? "reconnecting" : "connecting");
    }
  }

  /** Have no connection for so many milliseconds. */
  cut(duration) {
    this.hold("cut");
    setTimeout(() => this.release("cut"), duration);
  }

  /** Open a new connection in place of one that seems dead. */
  renew() {
    this.#close("lost");
    this.#connect("reconnecting");
  }

  #connect(state) {
    this.#close("lost");
    if (this.#holds.size) {
      return;
    }
    this.#become(state);
    const url = new URL(this.#path, document.baseURI);
    for (const [name, value] of Object.entries(this.#parameters)) {
      url.searchParams.set(name, value);
    }
    if (this.#lastId) {
      url.searchParams.set("last_event_id", this.#lastId);
    }
    const source = new EventSource(url);
    this.#source = source;
    source.onopen = () => {
      this.#failures = 0;
      this.heardAt = performance.now();
      this.#become("connected");
    };
    source.onerror = () => {
      this.#note("lost");
      this.#become("reconnecting");
      if (source.readyState === EventSource.CLOSED) {
        const delay = Math.min(FIRST_DELAY * 2 ** this.#failures, LONGEST_DELAY);
        this.#failures += 1;
        this.#timer = setTimeout(() => this.#connect("reconnecting"), delay * (1 + Math.random() / 2));
      }
    };
    source.addEventListener("served", (event) => this.#served(JSON.parse(event.data)));
    for (const [name, listeners] of this.#listeners) {
      source.addEventListener(name, (event) => {
        this.heardAt = performance.now();
        // A new EventSource has none until the first event that has one: the id from the query still holds.
        this.#lastId = event.lastEventId || this.#lastId;
        const data = JSON.parse(event.data);
        listeners.forEach((listen) => listen(data, event));
      });
    }
  }

  #served({ pid, at }) {
    const away = this.#lostAt ? performance.now() - this.#lostAt : 0;
    const served = { pid, at, previous: this.pid, away, why: this.#why };
    this.pid = pid;
    this.#lostAt = 0;
    this.#servedListeners.forEach((listen) => listen(served));
  }

  #close(why) {
    clearTimeout(this.#timer);
    if (this.#source) {
      this.#note(why);
      this.#source.close();
      this.#source = null;
    }
  }

  #note(why) {
    if (!this.#lostAt) {
      this.#lostAt = performance.now();
      this.#why = why;
    }
  }

  #become(state) {
    if (this.state !== state) {
      this.state = state;
      this.#stateListeners.forEach((listen) => listen(state));
    }
  }
}

/** What the charts and counters are fed from: never quiet, and of no use to a tab that nobody sees. */
export const figures = new LiveStream("figures");

/** Headlines, tasks and the chat: a hidden tab keeps it, and is up to date when it is looked at again. */
export const desk = new LiveStream("desk");

/** The lines of a file, of no use while they are out of sight. */
export const log = new LiveStream("log");

// A browser allows six connections to one server, over all of its tabs. So whoever is out of sight gives his back.
function noteVisibility() {
  for (const stream of [figures, log]) {
    if (document.hidden) {
      stream.hold("hidden");
    } else {
      stream.release("hidden");
    }
  }
}

/**
 * Give up connections for a request that finds none: what is given up is resumed.
 *
 * @returns {function(): void} takes them back
 */
export function makeWay() {
  for (const stream of [figures, log]) {
    stream.hold("request");
  }
  return () => {
    for (const stream of [figures, log]) {
      stream.release("request");
    }
  };
}

/** Open the streams, once everybody listens. */
export function start() {
  document.addEventListener("visibilitychange", noteVisibility);
  noteVisibility();
  figures.start();
  desk.start();
  log.start();
  // A connection may die without a word (a laptop that slept, a network that changed); EventSource wouldn't notice.
  setInterval(() => {
    if (figures.state === "connected" && performance.now() - figures.heardAt > SILENCE) {
      for (const stream of [figures, desk, log]) {
        stream.renew();
      }
    }
  }, 1000);
}

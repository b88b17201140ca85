// An EventSource that is never given up.
//
// A browser reconnects by itself after most failures, and then sends the last id it has seen. After some it doesn't (an
// answer that isn't 200, in some browsers a refused connection); then a new EventSource is opened here. That one can't
// set the Last-Event-ID header, so the id goes into the query.

const FIRST_DELAY = 500;
const LONGEST_DELAY = 8000;

export class LiveStream {
  #path;
  #handlers;
  #onState;
  #parameters = {};
  #source = null;
  #lastId = "";
  #failures = 0;
  #timer = 0;

  /**
   * @param {string} path where the stream is
   * @param {Object<string, function(any): void>} handlers by event name, called with the parsed data
   * @param {function("connecting" | "connected" | "reconnecting"): void} onState called with each change
   */
  constructor(path, handlers, onState) {
    this.#path = path;
    this.#handlers = handlers;
    this.#onState = onState;
  }

  /** Begin anew, with nothing to resume from. */
  start(parameters = {}) {
    this.#parameters = parameters;
    this.#lastId = "";
    this.#onState("connecting");
    this.#connect();
  }

  /** Close the connection; `resume()` goes on after the last event. */
  suspend() {
    clearTimeout(this.#timer);
    this.#source?.close();
    this.#source = null;
  }

  /** Open the connection again, if it isn't open. */
  resume() {
    if (!this.#source) {
      this.#connect();
    }
  }

  /** Open a new connection in place of one that seems dead. */
  renew() {
    this.#onState("reconnecting");
    this.#connect();
  }

  #connect() {
    this.suspend();
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
      this.#onState("connected");
    };
    source.onerror = () => {
      this.#onState("reconnecting");
      if (source.readyState === EventSource.CLOSED) {
        const delay = Math.min(FIRST_DELAY * 2 ** this.#failures, LONGEST_DELAY);
        this.#failures += 1;
        this.#timer = setTimeout(() => this.#connect(), delay * (1 + Math.random() / 2));
      }
    };
    for (const [name, handle] of Object.entries(this.#handlers)) {
      source.addEventListener(name, (event) => {
        this.#lastId = event.lastEventId;
        handle(JSON.parse(event.data));
      });
    }
  }
}

// The workers: each says once a second how it is doing; together they are the server.

/** Milliseconds after which a worker that says nothing more is gone. */
const SILENT = 3000;

/**
 * @typedef {object} Word what a worker says of itself
 * @property {number} pid
 * @property {number} at in ms of the server's clock
 * @property {number} streams open connections
 * @property {number} events sent per second
 * @property {number} bytes sent per second
 * @property {Object<string, number>} readers by channel
 */
export class Fleet {
  #words = new Map();

  /** @param {Word} word */
  heard(word) {
    this.#words.set(word.pid, word);
    for (const { pid, at } of this.#words.values()) {
      if (at < word.at - SILENT) {
        this.#words.delete(pid);
      }
    }
  }

  /** This one is gone for certain, before it has been silent for long. */
  forget(pid) {
    this.#words.delete(pid);
  }

  /** @returns {Word[]} by pid */
  get workers() {
    return [...this.#words.values()].sort((one, other) => one.pid - other.pid);
  }

  total(figure) {
    return this.workers.reduce((sum, word) => sum + word[figure], 0);
  }

  readers(channel) {
    return this.workers.reduce((sum, word) => sum + (word.readers[channel] ?? 0), 0);
  }
}

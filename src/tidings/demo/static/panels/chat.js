// Chat: an answer that goes on without its readers.

import { send } from "../api.js";
import { element, hush, make, say } from "../dom.js";

const NEAR_END = 24;

const SUGGESTIONS = ["Why is the sea salty?", "What is a server-sent event?", "Why do tabs reload so well here?"];

const ENDINGS = {
  stopped: () => "Stopped.",
  failed: ({ error }) => `The answer failed: ${error ?? "the reason is in the server’s log"}.`,
  aborted: ({ reason }) =>
    reason === "shutdown"
      ? "The answer breaks off: the server was stopped."
      : "The answer breaks off: the worker that wrote it is gone.",
};

export class Chat {
  #scroll = element("chat-scroll");
  #log = element("chat-log");
  #answer = null; // the text node that is being written
  #asked = 0;

  // Everything that is shown comes by the stream, one's own question, too: so all tabs show the same.
  /** @param {import("../streams.js").LiveStream} desk */
  constructor(desk) {
    desk
      .onServed(() => hush(this.#log))
      .on("question", ({ text }) => this.#question(text))
      .on("message", (token) => this.#token(token))
      .on("done", () => this.#end())
      .on("reset", () => {
        this.#log.replaceChildren();
        this.#end("Some of this chat may be lost.");
      });
    for (const [ending, describe] of Object.entries(ENDINGS)) {
      desk.on(ending, (data) => data.channel === "chat" && this.#end(describe(data)));
    }
    element("chat-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    element("chat-text").value = SUGGESTIONS[0];
    this.#end();
  }

  // One button: it asks, and while an answer is being written it stops that.
  async #submit() {
    const field = element("chat-text");
    const text = field.value.trim();
    const stopping = this.#answer !== null;
    if (!stopping && !text) {
      return;
    }
    const { ok, problem } = stopping ? await send("DELETE", "chat") : await send("POST", "chat", { text });
    say(element("chat-problem"), problem);
    if (ok && !stopping && field.value.trim() === text) {
      this.#asked += 1;
      field.value = SUGGESTIONS[this.#asked % SUGGESTIONS.length];
    }
  }

  #question(text) {
    this.#append(make("p", "question", text));
    this.#begin();
  }

  #token(token) {
    if (this.#answer === null) {
      this.#begin(); // its question is too old to be kept
    }
    const atEnd = this.#isAtEnd();
    this.#answer.appendData(token);
    if (atEnd) {
      this.#scrollToEnd();
    }
  }

  #begin() {
    this.#answer = document.createTextNode("");
    const item = make("p", "answer writing", this.#answer);
    this.#append(item);
    this.#describe();
  }

  #end(note = "") {
    this.#answer?.parentElement?.classList.remove("writing");
    this.#answer = null;
    if (note) {
      this.#append(make("p", "note", note));
    }
    this.#describe();
  }

  #describe() {
    const writing = this.#answer !== null;
    // A screen reader is told an answer as a whole.
    this.#log.ariaBusy = String(writing);
    element("chat-send").textContent = writing ? "Stop" : "Ask";
    element("chat-send").toggleAttribute("data-stop", writing);
    element("chat-empty").hidden = this.#log.childElementCount > 0;
  }

  #append(item) {
    const atEnd = this.#isAtEnd();
    this.#log.append(item);
    if (atEnd) {
      this.#scrollToEnd();
    }
  }

  #isAtEnd() {
    const { scrollHeight, scrollTop, clientHeight } = this.#scroll;
    return scrollHeight - scrollTop - clientHeight < NEAR_END;
  }

  #scrollToEnd() {
    this.#scroll.scrollTop = this.#scroll.scrollHeight;
  }
}

// Tasks: work in the background, each in a channel of its own.

import { send } from "../api.js";
import { element, hush, make, say } from "../dom.js";
import { percent } from "../format.js";

const SLOTS = 4;

const ENDINGS = {
  stopped: ["Cancelled", (_, share) => `Cancelled at ${share}.`],
  failed: ["Failed", ({ error }) => `${error ?? "The reason is in the server’s log"}.`],
  aborted: [
    "Broken off",
    ({ reason }) => (reason === "shutdown" ? "The server was stopped." : "The worker that did it is gone."),
  ],
};

class Slot {
  #number;
  #title = make("b", "", "Free");
  #share = make("span", "share");
  #bar = make("progress");
  #detail = make("p", "detail");
  #button = make("button", "button quiet", "Cancel");
  item = make("li", "task");

  constructor(number) {
    this.#number = number;
    this.#bar.value = 0;
    this.#bar.ariaLabel = `Task ${number}`;
    this.#button.type = "button";
    this.#button.addEventListener("click", () => this.#cancel());
    this.item.append(make("div", "task-head", this.#title, this.#share), this.#bar, this.#detail, this.#button);
    this.clear();
  }

  clear() {
    this.#become("free");
    this.#title.textContent = "Free";
    this.#detail.textContent = `Slot ${this.#number}`;
    this.#share.textContent = "";
    this.#bar.value = 0;
  }

  begin(title) {
    this.#become("running");
    this.#title.textContent = title;
    this.#detail.textContent = "Starting …";
    this.#share.textContent = "";
    this.#bar.value = 0;
  }

  progress({ title, done, total, detail }) {
    this.#become("running");
    this.#title.textContent = title;
    this.#detail.textContent = detail;
    this.#detail.title = detail;
    this.#bar.value = total ? done / total : 0;
    this.#share.textContent = this.#percent;
    this.#button.ariaLabel = `Cancel task ${this.#number}: ${title}`;
  }

  result({ title, detail }) {
    this.#become("done");
    this.#title.textContent = title;
    this.#detail.textContent = detail;
    this.#detail.title = detail;
    this.#bar.value = 1;
    this.#share.textContent = "Done";
  }

  end(state, data) {
    if (this.item.dataset.state === "done") {
      return; // nothing was left to stop
    }
    const [name, describe] = ENDINGS[state];
    this.#become(state);
    this.#detail.textContent = describe(data, this.#percent);
    this.#share.textContent = name;
  }

  get #percent() {
    return percent(Math.floor(100 * this.#bar.value));
  }

  get summary() {
    return `Task ${this.#number}, ${this.#title.textContent}: ${this.#share.textContent}. ${this.#detail.textContent}`;
  }

  #become(state) {
    // A focus on a button that goes away would be lost.
    if (state !== "running" && document.activeElement === this.#button) {
      element("task-checksum").focus();
    }
    this.item.dataset.state = state;
    this.#button.hidden = state !== "running";
  }

  async #cancel() {
    const { problem, status } = await send("DELETE", `tasks/${this.#number}`);
    say(element("tasks-problem"), status === 404 ? "" : problem);
  }
}

export class Tasks {
  #slots = Array.from({ length: SLOTS }, (_, index) => new Slot(index + 1));

  /** @param {import("../streams.js").LiveStream} desk */
  constructor(desk) {
    element("tasks-list").replaceChildren(...this.#slots.map(({ item }) => item));
    desk
      .onServed(() => hush(element("tasks-status")))
      .on("progress", (progress) => this.#slots[progress.slot - 1].progress(progress))
      .on("result", (result) => {
        this.#slots[result.slot - 1].result(result);
        this.#announce(this.#slots[result.slot - 1]);
      })
      .on("reset", () => this.#slots.forEach((slot) => slot.clear()));
    for (const ending of Object.keys(ENDINGS)) {
      desk.on(ending, (data) => this.#end(ending, data));
    }
    for (const kind of ["checksum", "compress"]) {
      element(`task-${kind}`).addEventListener("click", () => this.#start(kind));
    }
  }

  async #start(kind) {
    const { data, problem } = await send("POST", "tasks", { kind });
    say(element("tasks-problem"), problem);
    const slot = this.#slots[data?.slot - 1];
    // Its first event may be here before this answer.
    if (slot && slot.item.dataset.state !== "running") {
      slot.begin(element(`task-${kind}`).textContent);
    }
  }

  #end(state, data) {
    const [kind, number] = data.channel.split("/");
    if (kind === "task") {
      this.#slots[number - 1].end(state, data);
      this.#announce(this.#slots[number - 1]);
    }
  }

  #announce(slot) {
    say(element("tasks-status"), slot.summary);
  }
}

// Kill a worker: a counter that goes on, whichever process serves it.

import { send } from "../api.js";
import { element, make, say, settled } from "../dom.js";
import { number, pause, plural } from "../format.js";

/** Numbers that the strip has room for. */
const CELLS = 100;

const CAUSES = {
  hidden: "This tab was in the background.",
  request: "The connection made way for a request.",
  lost: "The connection was lost.",
};

const darkScheme = matchMedia("(prefers-color-scheme: dark)");

/** Counts what comes of 1, 2, 3, …: what is missing, what came twice. */
export class Tally {
  first = null;
  last = null;
  received = 0;
  twice = 0;
  #holes = new Set();

  get missing() {
    return this.#holes.size;
  }

  saw(n) {
    this.first ??= n;
    if (this.last === null || n > this.last) {
      for (let hole = (this.last ?? n - 1) + 1; hole < n; hole += 1) {
        this.#holes.add(hole);
      }
      this.last = n;
    } else if (n >= this.first && !this.#holes.delete(n)) {
      this.twice += 1;
      return;
    }
    this.received += 1;
  }
}

/** The last numbers, each in the cell of its own: nothing moves but the place of the next one. */
class Strip {
  #canvas;
  #cells = new Array(CELLS).fill(null);
  #last = 0;
  #frame = 0;
  #colours = {};

  constructor(canvas) {
    this.#canvas = canvas;
    new ResizeObserver(() => this.#schedule()).observe(canvas);
    darkScheme.addEventListener("change", () => {
      this.#colours = {};
      this.#schedule();
    });
  }

  clear() {
    this.#cells.fill(null);
    this.#schedule();
  }

  add(n, replayed) {
    this.#cells[n % CELLS] = { n, replayed };
    this.#last = n;
    this.#schedule();
  }

  #schedule() {
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      this.#draw();
    });
  }

  #colour(name) {
    return (this.#colours[name] ??= getComputedStyle(document.documentElement).getPropertyValue(name).trim());
  }

  #draw() {
    const ratio = window.devicePixelRatio || 1;
    const { clientWidth: width, clientHeight: height } = this.#canvas;
    this.#canvas.width = Math.round(width * ratio);
    this.#canvas.height = Math.round(height * ratio);
    const context = this.#canvas.getContext("2d");
    context.scale(ratio, ratio);
    const step = width / CELLS;
    const bar = Math.max(1, step - Math.max(1, step * 0.35));
    for (const [index, cell] of this.#cells.entries()) {
      const seen = cell && cell.n > this.#last - CELLS;
      const age = seen ? (this.#last - cell.n) / CELLS : 1;
      const high = !seen ? 2 : cell.replayed ? height * 0.5 : height;
      context.globalAlpha = !seen ? 1 : 1 - 0.72 * age;
      context.fillStyle = this.#colour(!seen ? "--grid" : cell.replayed ? "--second" : "--accent");
      context.fillRect(index * step, height - high, bar, high);
    }
  }
}

export class Workers {
  #figures;
  #fleet;
  #tally = new Tally();
  #strip = new Strip(element("counter-strip"));
  #run = null;
  #servedAt = 0;
  #killed = null;
  #returned = null;
  #frame = 0;
  #report = settled(() => this.#describeReturn());

  /**
   * @param {import("../streams.js").LiveStream} figures
   * @param {import("../fleet.js").Fleet} fleet
   */
  constructor(figures, fleet) {
    this.#figures = figures;
    this.#fleet = fleet;
    figures
      .onServed((served) => this.#served(served))
      .on("count", (count) => this.#count(count))
      .on("worker", () => this.#listWorkers())
      .on("reset", ({ reason }) => this.#reset(reason));
    element("kill").addEventListener("click", () => this.#kill());
  }

  #served({ pid, at, previous, away, why }) {
    this.#servedAt = at;
    element("worker-pid").textContent = pid;
    element("kill").textContent = `Kill worker ${pid}`;
    element("kill").ariaDisabled = "false";
    if (previous !== null) {
      this.#returned = { previous, pid, away, why, replayed: 0, reset: "" };
      this.#report();
    }
    this.#listWorkers();
  }

  #count({ number: n, run = null, at }) {
    if (run !== this.#run) {
      this.#startAnew(); // the counter began anew, with the server
      this.#run = run;
    }
    const replayed = at < this.#servedAt;
    this.#tally.saw(n);
    this.#strip.add(n, replayed);
    if (replayed && this.#returned) {
      this.#returned.replayed += 1;
      this.#report();
    }
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      this.#show();
    });
  }

  #show() {
    const { last, received, missing, twice } = this.#tally;
    element("counter").textContent = number(last ?? 0);
    element("counter-received").textContent = number(received);
    element("counter-missing").textContent = number(missing);
    element("counter-twice").textContent = number(twice);
    element("counter-figures").toggleAttribute("data-wrong", missing + twice > 0);
  }

  #startAnew() {
    this.#tally = new Tally();
    this.#strip.clear();
  }

  #reset(reason) {
    this.#startAnew();
    if (this.#returned) {
      this.#returned.reset = reason;
      this.#report();
    }
  }

  async #kill() {
    const button = element("kill");
    // Not `disabled`: who pressed it with the keyboard would be thrown back to the top of the page.
    if (button.ariaDisabled === "true") {
      return;
    }
    const { pid } = this.#figures;
    button.ariaDisabled = "true";
    this.#killed = pid;
    say(element("kill-outcome"), `Worker ${pid} is being killed …`);
    const { status, problem } = await send("POST", `workers/${pid}/kill`, {});
    // No answer at all is one, too: the worker that should have answered may have been the one.
    if (problem && status) {
      this.#killed = null;
      button.ariaDisabled = "false";
      say(element("kill-outcome"), problem);
    } else {
      this.#fleet.forget(pid);
      this.#listWorkers();
    }
  }

  #describeReturn() {
    if (!this.#returned) {
      return;
    }
    const { previous, pid, away, why, replayed, reset } = this.#returned;
    const killed = previous === this.#killed;
    const what = killed ? `Worker ${previous} is dead.` : (CAUSES[why] ?? CAUSES.lost);
    const back = `Back after ${pause(away)} on worker ${pid}`;
    if (reset) {
      say(
        element("kill-outcome"),
        `${what} ${back}. The server says “reset” (${reason(reset)}), so the tally begins anew.`,
      );
    } else {
      const { missing } = this.#tally;
      const loss = missing ? `${plural(missing, "is", "are")} missing` : "none is missing";
      say(element("kill-outcome"), `${what} ${back}: ${plural(replayed, "number", "numbers")} replayed, ${loss}.`);
    }
  }

  #listWorkers() {
    const { pid: own } = this.#figures;
    element("workers-list").replaceChildren(
      ...this.#fleet.workers.map(({ pid, streams, events }) =>
        make(
          "li",
          pid === own ? "own" : "",
          make("b", "", `${pid}`),
          make("span", "", plural(streams, "stream", "streams")),
          make("span", "", `${number(Math.round(events))} events/s`),
          make("span", "tag", pid === own ? "this tab" : ""),
        ),
      ),
    );
  }
}

function reason(name) {
  return (
    {
      trimmed: "what followed is no longer kept",
      epoch: "its history began anew",
    }[name] ?? name
  );
}

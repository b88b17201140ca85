// News desk: a channel, its readers, and what a tab gets that was away.

import { send } from "../api.js";
import { element, hush, make, say, settled } from "../dom.js";
import { clock, pause, plural } from "../format.js";

const MOST = 60;
const CUT = 5000;

const SUGGESTIONS = [
  "The ferry to the islands leaves from pier 3 today",
  "Library open until ten, the lift works again",
  "First snow on the pass, chains required",
  "The market moves to the square on Saturday",
  "Tram 7 is back on its usual route",
  "Somebody left a red bicycle at the station",
];

export class News {
  #desk;
  #fleet;
  #list = element("news-list");
  #suggestion = Math.floor(Math.random() * SUGGESTIONS.length);
  #servedAt = 0;
  #returned = null; // how the connection came back, and how many headlines with it
  #report = settled(() => this.#describeReturn());

  /**
   * @param {import("../streams.js").LiveStream} desk
   * @param {import("../streams.js").LiveStream} figures
   * @param {import("../fleet.js").Fleet} fleet
   */
  constructor(desk, figures, fleet) {
    this.#desk = desk;
    this.#fleet = fleet;
    desk
      .onServed((served) => this.#served(served))
      .on("headline", (headline) => this.#headline(headline))
      .on("reset", ({ reason }) => this.#reset(reason));
    figures.on("worker", () => this.#describeReaders());
    element("news-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#publish();
    });
    element("news-cut").addEventListener("click", () => this.#cut());
    this.#suggest();
  }

  async #publish() {
    const field = element("news-text");
    const text = field.value.trim();
    if (!text) {
      return;
    }
    const { ok, problem } = await send("POST", "news", { text });
    say(element("news-problem"), problem);
    if (ok && field.value.trim() === text) {
      this.#suggest();
    }
  }

  #suggest() {
    this.#suggestion = (this.#suggestion + 1) % SUGGESTIONS.length;
    element("news-text").value = SUGGESTIONS[this.#suggestion];
  }

  #served({ pid, at, previous, away, why }) {
    hush(this.#list);
    this.#servedAt = previous === null ? 0 : at;
    if (previous !== null) {
      this.#returned = { pid, away, why, replayed: 0 };
      this.#report();
    }
  }

  #headline({ text, at }) {
    const replayed = at < this.#servedAt;
    if (replayed && this.#returned) {
      this.#returned.replayed += 1;
      this.#report();
    }
    const time = make("time", "", clock(at));
    time.dateTime = new Date(at).toISOString();
    const item = make("li", "", time, make("span", "text", text));
    if (replayed) {
      item.classList.add("replayed");
      item.append(make("span", "tag", "replayed"));
    }
    this.#list.prepend(item);
    this.#list.children[MOST]?.remove();
    element("news-empty").hidden = true;
  }

  /** The server can't say what was missed: what it still has comes now, from the beginning. */
  #reset(reason) {
    this.#list.replaceChildren(make("li", "notice", `Reset (${reason}): this tab may have missed headlines. These are kept:`));
    this.#servedAt = 0;
    this.#returned = null;
  }

  #cut() {
    const button = element("news-cut");
    // Not `disabled`: who pressed it with the keyboard would be thrown back to the top of the page.
    if (button.ariaDisabled === "true") {
      return;
    }
    button.ariaDisabled = "true";
    say(element("news-return"), "Cut for five seconds. Publish from another tab, or from this one: nothing arrives here.");
    this.#desk.cut(CUT);
    const back = performance.now() + CUT;
    const timer = setInterval(() => {
      const left = Math.ceil((back - performance.now()) / 1000);
      button.textContent = left > 0 ? `Back in ${left} s` : "Cut this tab’s connection";
      if (left <= 0) {
        clearInterval(timer);
        button.ariaDisabled = "false";
      }
    }, 100);
  }

  #describeReturn() {
    if (!this.#returned) {
      return;
    }
    const { pid, away, why, replayed } = this.#returned;
    const gap = why === "cut" ? `Back after ${pause(away)}` : `The connection was lost; back after ${pause(away)}`;
    const news = replayed ? `${plural(replayed, "headline was", "headlines were")} replayed` : "there was nothing to replay";
    say(element("news-return"), `${gap} on worker ${pid}: ${news}.`);
  }

  #describeReaders() {
    say(element("news-readers"), plural(this.#fleet.readers("news"), "reader", "readers"));
    say(element("news-workers"), `on ${plural(this.#fleet.workers.length, "worker", "workers")}`);
  }
}

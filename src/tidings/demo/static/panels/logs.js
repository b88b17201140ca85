// Logs: a file as it grows.

import { send } from "../api.js";
import { element, make, settled } from "../dom.js";
import { plural } from "../format.js";

/** Lines that are kept on the page, and that wait while it is paused. */
const MOST_LINES = 1000;

/** Pixels from the end of the list within which it still counts as scrolled to the end. */
const NEAR_END = 24;

const NOTICES = {
  rotated: "The file was rotated; here the new one begins.",
  truncated: "The file was cut off; from here it is read from its beginning.",
  replaced: "The file was replaced while the page was away; these are its last lines.",
  unknown: "The place to go on from was not found; these are the last lines.",
};

const LEVELS = [
  ["error", /\b(error|critical|fatal|panic|traceback)\b|" 5\d\d\b/i],
  ["warning", /\b(warn|warning)\b|" 4\d\d\b/i],
];

export class Logs {
  #log;
  #lines = element("log-lines");
  #scroll = element("log-scroll");
  #waiting = [];
  #frame = 0;
  #paused = false;
  #outdated = false;
  #keyword = "";
  #marks = null;
  #atEnd = true;
  #opened = false;
  #quiet = 0;

  /** @param {import("../streams.js").LiveStream} log */
  constructor(log) {
    this.#log = log;
    log
      .on("opened", (opening) => this.#open(opening))
      .on("logged", (line) => this.#line(line))
      .on("restarted", (restart) => this.#restart(restart));
    element("log-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#applyFilter();
    });
    element("log-filter").addEventListener("input", settled(() => this.#applyFilter(), 250));
    // A line for those who look at a quiet access log.
    element("log-knock").addEventListener("click", () => {
      send("GET", `favicon.svg?hello=${Date.now() % 100_000}`);
    });
    this.#openInSight();
    element("log-pause").addEventListener("click", () => this.#togglePause());
    element("log-newest").addEventListener("click", () => this.#scrollToEnd());
    this.#scroll.addEventListener("scroll", () => this.#noteScroll(), { passive: true });
    // A list that becomes higher or lower, or is shown again, stays at its end.
    new ResizeObserver(() => this.#atEnd && this.#scrollToEnd()).observe(this.#scroll);
  }

  /** The stream is open while the panel is in sight, or nearly so: connections are scarce. */
  #openInSight() {
    this.#log.hold("unseen");
    const sight = new IntersectionObserver(
      (entries) => (entries.at(-1).isIntersecting ? this.#log.release("unseen") : this.#log.hold("unseen")),
      { rootMargin: "200px" },
    );
    sight.observe(element("logs"));
  }

  /** The server filters; the list begins anew, and a pause is over. */
  #applyFilter() {
    const keyword = element("log-filter").value.trim();
    if (keyword === this.#keyword) {
      return;
    }
    this.#paused = false;
    this.#keyword = keyword;
    this.#marks = keyword ? new RegExp(`(${escapeRegExp(keyword)})`, "giu") : null;
    this.#clear();
    this.#opened = false;
    this.#describe();
    this.#log.start(keyword ? { keyword } : {});
  }

  /** The start of a connection: it goes on where the last one stopped, or the list begins anew. */
  #open({ file, own, resumed, reason }) {
    this.#opened = true;
    const name = element("log-file");
    name.textContent = own ? `this page’s own requests, ${file}` : file;
    element("log-knock").hidden = !own;
    if (!resumed) {
      this.#clear();
    }
    if (reason) {
      this.#add({ notice: NOTICES[reason] });
    }
    this.#announceSoon();
    this.#schedule();
  }

  #line({ text, cut }) {
    this.#add({ text, cut, fresh: this.#quiet === 0 });
  }

  #restart({ reason }) {
    this.#add({ notice: NOTICES[reason] });
  }

  #add(entry) {
    this.#waiting.push(entry);
    if (this.#waiting.length > MOST_LINES) {
      this.#waiting.shift();
    }
    this.#schedule();
  }

  #clear() {
    this.#waiting = [];
    if (this.#paused) {
      this.#outdated = true; // who is reading reads on
    } else {
      this.#lines.replaceChildren();
      this.#atEnd = true;
    }
    // The lines that are there already don't light up as if they were new.
    clearTimeout(this.#quiet);
    this.#quiet = setTimeout(() => { this.#quiet = 0; }, 1000);
  }

  // One change of the page per frame, however many lines come.
  #schedule() {
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      this.#show();
    });
  }

  #show() {
    if (!this.#paused && this.#outdated) {
      this.#outdated = false;
      this.#lines.replaceChildren();
      this.#atEnd = true;
    }
    if (!this.#paused && this.#waiting.length) {
      this.#lines.append(...this.#waiting.map((entry) => this.#render(entry)));
      this.#waiting = [];
      for (let surplus = this.#lines.childElementCount - MOST_LINES; surplus > 0; surplus -= 1) {
        this.#lines.firstElementChild.remove();
      }
      if (this.#atEnd) {
        this.#scrollToEnd();
      }
    }
    this.#describe();
  }

  #render({ text, cut, fresh, notice }) {
    if (notice) {
      return make("li", "notice", notice);
    }
    const item = make("li", fresh ? "fresh" : "");
    const level = LEVELS.find(([, pattern]) => pattern.test(text));
    if (level) {
      item.dataset.level = level[0];
    }
    // split() with a group in the pattern: every second part is a match.
    const parts = this.#marks ? text.split(this.#marks) : [text];
    item.append(...parts.map((part, index) => (index % 2 ? make("mark", "", part) : part)));
    if (cut) {
      item.append(make("span", "cut", " … the rest of this line is left out"));
    }
    return item;
  }

  #describe() {
    const count = this.#lines.childElementCount;
    const shown = plural(count, "line", "lines");
    element("log-count").textContent = !this.#opened
      ? ""
      : count >= MOST_LINES
        ? `the last ${shown}`
        : this.#keyword
          ? `${shown} with “${this.#keyword}”`
          : shown;
    const pause = element("log-pause");
    pause.textContent = !this.#paused
      ? "Pause"
      : this.#waiting.length >= MOST_LINES
        ? `Resume, ${MOST_LINES}+ new`
        : this.#waiting.length
          ? `Resume, ${this.#waiting.length} new`
          : "Resume";
    pause.toggleAttribute("data-paused", this.#paused);
    const empty = element("log-empty");
    empty.hidden = count > 0 || this.#waiting.length > 0 || !this.#opened;
    empty.textContent = this.#keyword
      ? `No line with “${this.#keyword}” so far. The next one will appear here.`
      : "The file is empty so far. Its first line will appear here.";
    element("log-newest").hidden = this.#atEnd;
  }

  // A screen reader is told the outcome of a filter, once; not each line.
  #announceSoon() {
    setTimeout(() => {
      element("log-status").textContent = this.#keyword ? element("log-count").textContent : "";
    }, 700);
  }

  #togglePause() {
    this.#paused = !this.#paused;
    this.#show();
  }

  #noteScroll() {
    const { scrollHeight, scrollTop, clientHeight } = this.#scroll;
    this.#atEnd = scrollHeight - scrollTop - clientHeight < NEAR_END;
    element("log-newest").hidden = this.#atEnd;
  }

  #scrollToEnd() {
    this.#atEnd = true;
    this.#scroll.scrollTop = this.#scroll.scrollHeight;
    element("log-newest").hidden = true;
  }
}

function escapeRegExp(text) {
  return text.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&");
}

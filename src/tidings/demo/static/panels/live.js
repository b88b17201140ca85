// Live: what the machine is doing, and the server itself.

import { Chart, Clock, Stage } from "../chart.js";
import { element, make } from "../dom.js";
import { bytes, duration, number, percent, plural, rate, rateParts, sizeParts } from "../format.js";

const SPAN = 60_000;

/** How far behind the clock the charts are, in ms: a little more than the time between two samples of the machine. */
const DELAY = 800;

/** The same for what the workers say, once a second each. */
const FLEET_DELAY = 1500;

export class Live {
  #clock = new Clock();
  #stage = new Stage(this.#clock, DELAY);
  #fleetStage = new Stage(this.#clock, FLEET_DELAY);
  #fleet;
  #memory = 1;
  #cores = [];
  #charts;

  /**
   * @param {import("../streams.js").LiveStream} figures
   * @param {import("../fleet.js").Fleet} fleet
   */
  constructor(figures, fleet) {
    this.#fleet = fleet;
    const chart = (id, options, stage = this.#stage) =>
      stage.add(new Chart(element(id), { span: SPAN, gap: 3000, ...options }));
    const small = (id, least) =>
      chart(id, { series: ["--accent"], gap: 5000, top: (peak) => roundUp(peak, least) }, this.#fleetStage);
    this.#charts = {
      processor: chart("processor-chart", { series: ["--accent"], top: 100, label: percent }),
      memory: chart("memory-chart", { series: ["--accent"], top: (peak) => this.#roundMemory(peak), label: bytes }),
      network: chart("network-chart", { series: ["--accent", "--second"], top: (peak) => roundUp(peak, 10_000), label: (top) => rate(top).replace(".0", ""), mirror: true }),
      streams: small("streams-chart", 4),
      events: small("events-chart", 20),
      bytes: small("bytes-chart", 2000),
    };
    figures
      .onServed(() => this.#clock.reset()) // a server that came back may have another clock
      .on("host", (host) => this.#host(host))
      .on("sample", (sample) => this.#sample(sample))
      .on("worker", (word) => this.#worker(word));
  }

  #host({ name, system, cores, memory, booted }) {
    this.#memory = memory;
    element("host-name").textContent = name;
    element("host-facts").textContent = [
      "",
      system,
      plural(cores, "core", "cores"),
      `${bytes(memory)} of memory`,
      `up ${duration(Date.now() / 1000 - booted)}`,
    ].join(" · ");
  }

  /** One worker has spoken: the charts show the sum over all of them. */
  #worker({ at }) {
    const [streams, events, sent] = ["streams", "events", "bytes"].map((figure) => this.#fleet.total(figure));
    this.#charts.streams.push(at, [streams]);
    this.#charts.events.push(at, [events]);
    this.#charts.bytes.push(at, [sent]);
    element("streams-now").textContent = number(streams);
    element("events-now").textContent = number(Math.round(events));
    [element("bytes-now").textContent, element("bytes-unit").textContent] = rateParts(sent);
    this.#fleetStage.refresh();
  }

  #sample({ time, processor, cores, memory, received, sent }) {
    this.#clock.saw(time);
    if (this.#cores.length !== cores.length) {
      this.#layOutCores(cores.length);
    }
    this.#charts.processor.push(time, [processor]);
    this.#charts.memory.push(time, [memory]);
    this.#charts.network.push(time, [received, -sent]);
    cores.forEach((load, index) => {
      this.#cores[index].chart.push(time, [load]);
      this.#cores[index].load.textContent = percent(load);
    });

    const { mean, peak } = this.#charts.processor.summary();
    const [used, unit] = sizeParts(memory);
    element("processor-now").textContent = Math.round(processor);
    element("processor-note").textContent = `average ${percent(mean)}, peak ${percent(peak)}`;
    element("memory-now").textContent = used;
    element("memory-unit").textContent = unit;
    element("memory-note").textContent = `${percent((100 * memory) / this.#memory)} of ${bytes(this.#memory)}`;
    element("received-now").textContent = rate(received);
    element("sent-now").textContent = rate(sent);
    this.#stage.refresh();
  }

  /** A half, a quarter, … of all memory: little use is still a line that moves. */
  #roundMemory(peak) {
    let top = this.#memory;
    while (top / 2 > peak * 1.2 && top > this.#memory / 16) {
      top /= 2;
    }
    return top;
  }

  #layOutCores(count) {
    this.#cores.forEach(({ chart }) => this.#stage.remove(chart));
    this.#cores = Array.from({ length: count }, (_, index) => {
      const canvas = make("canvas");
      const load = make("b");
      const box = make("div", "chart", canvas);
      box.ariaHidden = "true";
      const item = make("li", "core", make("span", "", `Core ${index + 1}`), load, box);
      return { item, load, canvas };
    });
    element("cores").classList.toggle("many", count > 8);
    element("cores").replaceChildren(...this.#cores.map(({ item }) => item));
    for (const core of this.#cores) {
      core.chart = this.#stage.add(
        new Chart(core.canvas, { series: ["--accent"], span: SPAN, gap: 3000, top: 100, plain: true }),
      );
    }
  }
}

/** The next of 1, 2, 5, 10, 20, 50, … times the least one above an amount. */
function roundUp(amount, least) {
  let top = least;
  for (let step = 0; top < amount * 1.05; step += 1) {
    top *= step % 3 === 1 ? 2.5 : 2;
  }
  return top;
}

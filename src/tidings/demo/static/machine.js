// The left column: what the machine is doing.

import { Chart, Clock, Stage } from "./chart.js";
import { bytes, duration, percent, plural, rate, sizeParts } from "./format.js";

const SPAN = 60_000;

const element = (id) => document.getElementById(id);

export class MachineView {
  #clock = new Clock();
  #stage = new Stage(this.#clock, 800);
  #memory = 1;
  #cores = [];
  #charts;

  constructor() {
    const chart = (id, options) =>
      this.#stage.add(new Chart(element(id), { span: SPAN, gap: 3000, ...options }));
    this.#charts = {
      processor: chart("processor-chart", { series: ["--processor"], top: 100, label: percent }),
      memory: chart("memory-chart", { series: ["--memory"], top: (peak) => this.#roundMemory(peak), label: bytes }),
      network: chart("network-chart", { series: ["--received", "--sent"], top: roundRate, label: (top) => rate(top).replace(".0", ""), mirror: true }),
    };
  }

  /** The start of a connection. */
  host({ name, system, cores, memory, booted }) {
    this.#clock.reset();
    this.#memory = memory;
    element("host-name").textContent = `of ${name}`;
    element("host-facts").textContent = [
      "",
      system,
      plural(cores, "core", "cores"),
      `${bytes(memory)} of memory`,
      `up ${duration(Date.now() / 1000 - booted)}`,
    ].join(" · ");
    document.title = `tidings of ${name}`;
  }

  sample({ time, processor, cores, memory, received, sent }) {
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
      const item = document.createElement("li");
      item.className = "core";
      const name = document.createElement("span");
      name.textContent = `Core ${index + 1}`;
      const load = document.createElement("b");
      const canvas = document.createElement("canvas");
      const box = document.createElement("div");
      box.className = "chart";
      box.ariaHidden = "true";
      box.append(canvas);
      item.append(name, load, box);
      return { item, load, canvas };
    });
    element("cores").classList.toggle("many", count > 8);
    element("cores").replaceChildren(...this.#cores.map(({ item }) => item));
    for (const core of this.#cores) {
      core.chart = this.#stage.add(
        new Chart(core.canvas, { series: ["--processor"], span: SPAN, gap: 3000, top: 100, plain: true }),
      );
    }
  }
}

/** The next of 10, 20, 50, 100, … kB/s above a rate. */
function roundRate(bytesPerSecond) {
  let top = 10_000;
  for (let step = 0; top < bytesPerSecond * 1.05; step += 1) {
    top *= step % 3 === 1 ? 2.5 : 2;
  }
  return top;
}

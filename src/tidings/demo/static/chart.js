// Moving charts on canvas: time runs from right to left without steps, whatever the pace of the samples.

const reducedMotion = matchMedia("(prefers-reduced-motion: reduce)");
const darkScheme = matchMedia("(prefers-color-scheme: dark)");

/** What the server's clock says now, as far as the samples tell: the quickest of them was the least delayed. */
export class Clock {
  #offset = Infinity;

  /** A sample taken at this time (in ms) has just come. */
  saw(time) {
    const offset = performance.now() - time;
    if (offset < this.#offset) {
      this.#offset = offset;
    } else if (offset < this.#offset + 2000) {
      this.#offset += (offset - this.#offset) / 100; // the two clocks drift
    }
  }

  /** Forget what was seen: a server that came back may have another clock. */
  reset() {
    this.#offset = Infinity;
  }

  now() {
    return performance.now() - this.#offset;
  }
}

/** Draws charts: all of them in each frame, those out of sight not at all. */
export class Stage {
  #charts = new Map();
  #clock;
  #delay;
  #stale = true;
  #sizes = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      this.#charts.get(target)?.resize();
    }
    this.#stale = true;
  });
  #sight = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      const chart = this.#charts.get(target);
      if (chart) {
        chart.visible = isIntersecting;
      }
    }
    this.#stale = true;
  });

  /**
   * @param {Clock} clock
   * @param {number} delay how far behind the clock the right edge is, in ms: a little more than the time between two
   *   samples, so that the next one is always there before its place comes into sight
   */
  constructor(clock, delay) {
    this.#clock = clock;
    this.#delay = delay;
    darkScheme.addEventListener("change", () => {
      for (const chart of this.#charts.values()) {
        chart.recolour();
      }
      this.#stale = true;
    });
    requestAnimationFrame(() => this.#frame());
  }

  add(chart) {
    this.#charts.set(chart.canvas, chart);
    this.#sizes.observe(chart.canvas);
    this.#sight.observe(chart.canvas);
    return chart;
  }

  remove(chart) {
    this.#charts.delete(chart.canvas);
    this.#sizes.unobserve(chart.canvas);
    this.#sight.unobserve(chart.canvas);
  }

  /** There is something new to draw, for those who want no motion: their charts move with each sample only. */
  refresh() {
    this.#stale = true;
  }

  #frame() {
    if (this.#stale || !reducedMotion.matches) {
      this.#stale = false;
      const still = reducedMotion.matches;
      const edge = this.#clock.now() - (still ? 0 : this.#delay);
      for (const chart of this.#charts.values()) {
        if (chart.visible) {
          chart.draw(edge, still);
        }
      }
    }
    requestAnimationFrame(() => this.#frame());
  }
}

/** One or more lines over the last minute. */
export class Chart {
  visible = false;
  #context;
  #series;
  #span;
  #gap;
  #top;
  #shownTop;
  #label;
  #mirror;
  #plain;
  #width = 0;
  #height = 0;
  #ratio = 1;
  #colours = {};
  #times = [];
  #values;

  /**
   * @param {HTMLCanvasElement} canvas
   * @param {object} options
   * @param {string[]} options.series the CSS custom property with the colour of each line
   * @param {number} options.span how much time the chart shows, in ms
   * @param {number} options.gap a pause between two samples that breaks the line, in ms
   * @param {number | function(number): number} options.top the value at the upper edge, or how to find it from the
   *   largest value in sight
   * @param {function(number): string} [options.label] writes the value of the upper edge; without it, no label
   * @param {boolean} [options.mirror] whether there are negative values too, drawn downwards from the middle
   * @param {boolean} [options.plain] a small chart, without grid
   */
  constructor(canvas, { series, span, gap, top, label = null, mirror = false, plain = false }) {
    this.canvas = canvas;
    this.#context = canvas.getContext("2d");
    this.#series = series;
    this.#span = span;
    this.#gap = gap;
    this.#top = top;
    this.#shownTop = typeof top === "number" ? top : top(0);
    this.#label = label;
    this.#mirror = mirror;
    this.#plain = plain;
    this.#values = series.map(() => []);
    this.recolour();
  }

  /** A sample: its time in ms and the value of each line. Older ones than the last are ignored. */
  push(time, values) {
    const times = this.#times;
    if (times.length && time <= times.at(-1)) {
      return;
    }
    times.push(time);
    values.forEach((value, index) => this.#values[index].push(value));
    // Two more than are in sight: the curve comes in from outside, bent by its neighbours.
    const old = times.findIndex((then) => then >= time - this.#span - 10_000);
    if (old > 2) {
      times.splice(0, old - 2);
      this.#values.forEach((line) => line.splice(0, old - 2));
    }
    this.canvas.dataset.samples = Number(this.canvas.dataset.samples ?? 0) + 1;
  }

  /** Mean and largest amount of a line over the samples in sight. */
  summary(index = 0) {
    const from = (this.#times.at(-1) ?? 0) - this.#span;
    const seen = this.#values[index].filter((_, i) => this.#times[i] >= from);
    return { mean: seen.reduce((sum, value) => sum + value, 0) / (seen.length || 1), peak: Math.max(0, ...seen.map(Math.abs)) };
  }

  resize() {
    this.#ratio = window.devicePixelRatio || 1;
    this.#width = this.canvas.clientWidth;
    this.#height = this.canvas.clientHeight;
    this.canvas.width = Math.round(this.#width * this.#ratio);
    this.canvas.height = Math.round(this.#height * this.#ratio);
  }

  recolour() {
    const style = getComputedStyle(document.documentElement);
    for (const name of [...this.#series, "--grid", "--muted", "--panel"]) {
      this.#colours[name] = style.getPropertyValue(name).trim(); // #rrggbb, all of them
    }
  }

  /** Draw the time up to `edge` (in ms); `still` leaves out what moves between samples. */
  draw(edge, still) {
    if (!this.#width || !Number.isFinite(edge)) {
      return;
    }
    if (this.#ratio !== (window.devicePixelRatio || 1)) {
      this.resize(); // zoomed, or moved to another screen
    }
    const context = this.#context;
    context.setTransform(this.#ratio, 0, 0, this.#ratio, 0, 0);
    context.clearRect(0, 0, this.#width, this.#height);
    this.#settleTop(still);
    const plot = this.#plain
      ? { left: 0, right: this.#width - 3, top: 3, bottom: this.#height - 1 }
      : { left: 0, right: this.#width - 5, top: 6, bottom: this.#height - 1 };
    plot.floor = this.#mirror ? (plot.top + plot.bottom) / 2 : plot.bottom;
    const scale = {
      x: (time) => plot.right - ((edge - time) / this.#span) * (plot.right - plot.left),
      y: (value) => plot.floor - (Math.min(value, this.#shownTop) / this.#shownTop) * (plot.floor - plot.top),
    };
    this.#drawGrid(context, plot, scale, edge);
    this.#series.forEach((name, index) => {
      this.#drawLine(context, plot, scale, edge, this.#values[index], this.#colours[name]);
    });
    this.#drawLabel(context, plot);
  }

  #settleTop(still) {
    if (typeof this.#top === "number") {
      return;
    }
    const wanted = this.#top(Math.max(0, ...this.#series.map((_, index) => this.summary(index).peak)));
    const step = still ? 1 : 0.08;
    this.#shownTop += (wanted - this.#shownTop) * step;
  }

  #drawGrid(context, plot, scale, edge) {
    context.strokeStyle = this.#colours["--grid"];
    context.lineWidth = 1;
    context.beginPath();
    const levels = this.#plain ? [0] : [0, 0.5, 1];
    for (const level of levels) {
      const y = Math.round(plot.bottom - level * (plot.bottom - plot.top)) + 0.5;
      context.moveTo(plot.left, Math.min(y, this.#height - 0.5));
      context.lineTo(plot.right, Math.min(y, this.#height - 0.5));
    }
    if (!this.#plain) {
      // A mark each quarter of a minute, on the server's clock: they move with the time.
      const quarter = 15_000;
      for (let time = Math.floor(edge / quarter) * quarter; time > edge - this.#span; time -= quarter) {
        context.moveTo(scale.x(time), plot.top);
        context.lineTo(scale.x(time), plot.bottom);
      }
    }
    context.stroke();
  }

  #drawLabel(context, plot) {
    if (!this.#label) {
      return;
    }
    context.font = `11px ${getComputedStyle(this.canvas).fontFamily}`;
    context.fillStyle = this.#colours["--muted"];
    context.textBaseline = "top";
    // A rim in the colour of the ground, so that it can be read on the line, too.
    context.strokeStyle = this.#colours["--panel"];
    context.lineWidth = 4;
    context.lineJoin = "round";
    context.strokeText(this.#label(this.#shownTop), plot.left, plot.top + 4);
    context.fillText(this.#label(this.#shownTop), plot.left, plot.top + 4);
  }

  #drawLine(context, plot, scale, edge, values, colour) {
    context.save();
    context.beginPath();
    context.rect(plot.left, 0, plot.right - plot.left, this.#height);
    context.clip();
    context.strokeStyle = colour;
    context.lineWidth = this.#plain ? 1.25 : 1.75;
    context.lineJoin = "round";
    let head = null;
    for (const [from, to] of this.#stretches()) {
      const slopes = monotoneSlopes(this.#times, values, from, to);
      const line = tracePath(this.#times, values, slopes, from, to, scale);
      context.stroke(line);
      line.lineTo(scale.x(this.#times[to]), plot.floor);
      line.lineTo(scale.x(this.#times[from]), plot.floor);
      context.globalAlpha = 0.26;
      context.fillStyle = this.#shade(context, plot, colour);
      context.fill(line);
      context.globalAlpha = 1;
      head = valueAt(this.#times, values, slopes, from, to, edge) ?? head;
    }
    context.restore();
    if (head !== null) {
      context.fillStyle = colour;
      context.beginPath();
      context.arc(plot.right, scale.y(head), this.#plain ? 2 : 3, 0, 2 * Math.PI);
      context.fill();
    }
  }

  /** From the colour far from the floor to nothing on it. */
  #shade(context, plot, colour) {
    const shade = context.createLinearGradient(0, plot.top, 0, plot.bottom);
    // The same colour with no opacity: "transparent" would be black, and the way there grey.
    shade.addColorStop(0, colour);
    shade.addColorStop((plot.floor - plot.top) / (plot.bottom - plot.top), `${colour}00`);
    if (this.#mirror) {
      shade.addColorStop(1, colour);
    }
    return shade;
  }

  /** First and last index of each stretch of samples without a gap. */
  *#stretches() {
    let from = 0;
    for (let index = 1; index <= this.#times.length; index += 1) {
      if (index === this.#times.length || this.#times[index] - this.#times[index - 1] > this.#gap) {
        yield [from, index - 1];
        from = index;
      }
    }
  }
}

// A cubic through all samples that never overshoots them (Fritsch and Carlson, 1980): a load of 0 stays on the floor.
function monotoneSlopes(times, values, from, to) {
  const slopes = [];
  let before = 0;
  for (let index = from; index <= to; index += 1) {
    const after = index < to ? (values[index + 1] - values[index]) / (times[index + 1] - times[index]) : 0;
    // The harmonic mean of both sides; flat at a peak, in a valley and at the ends.
    slopes[index] = before * after > 0 ? (2 * before * after) / (before + after) : 0;
    before = after;
  }
  return slopes;
}

function tracePath(times, values, slopes, from, to, scale) {
  const path = new Path2D();
  path.moveTo(scale.x(times[from]), scale.y(values[from]));
  for (let index = from; index < to; index += 1) {
    const third = (times[index + 1] - times[index]) / 3;
    path.bezierCurveTo(
      scale.x(times[index] + third),
      scale.y(values[index] + slopes[index] * third),
      scale.x(times[index + 1] - third),
      scale.y(values[index + 1] - slopes[index + 1] * third),
      scale.x(times[index + 1]),
      scale.y(values[index + 1]),
    );
  }
  return path;
}

/** The value of the same curve at one time, or null where it doesn't reach. */
function valueAt(times, values, slopes, from, to, time) {
  if (time < times[from] || time > times[to]) {
    return null;
  }
  if (from === to) {
    return values[from];
  }
  let index = from;
  while (index < to - 1 && times[index + 1] < time) {
    index += 1;
  }
  const width = times[index + 1] - times[index];
  const t = (time - times[index]) / width;
  const u = 1 - t;
  return (
    u * u * (1 + 2 * t) * values[index] +
    t * t * (1 + 2 * u) * values[index + 1] +
    t * u * (u * slopes[index] - t * slopes[index + 1]) * width
  );
}

// The page: three streams, six panels.

import { fillFolds } from "./code.js";
import { element, say } from "./dom.js";
import { Fleet } from "./fleet.js";
import { Chat } from "./panels/chat.js";
import { Live } from "./panels/live.js";
import { Logs } from "./panels/logs.js";
import { News } from "./panels/news.js";
import { Tasks } from "./panels/tasks.js";
import { Workers } from "./panels/workers.js";
import { desk, figures, log, start } from "./streams.js";

const STATES = {
  reconnecting: "Reconnecting",
  cut: "Cut for five seconds",
  connecting: "Connecting",
  connected: "Connected",
};

/** The state of the worst of the streams. */
function showConnection() {
  const states = [figures, desk, log].map(({ state }) => state);
  const worst = Object.keys(STATES).find((state) => states.includes(state));
  if (worst) {
    element("connection").dataset.state = worst;
    say(element("connection"), STATES[worst]);
  }
}

for (const stream of [figures, desk, log]) {
  stream.onState(showConnection);
}

const fleet = new Fleet();
figures.on("worker", (word) => fleet.heard(word)); // before the panels, which look at all of them

new Live(figures, fleet);
new News(desk, figures, fleet);
new Workers(figures, fleet);
new Tasks(desk);
new Chat(desk);
new Logs(log);
fillFolds();
start();

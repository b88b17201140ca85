// The folds: the running source of each panel, coloured a little.

import { send } from "./api.js";
import { make } from "./dom.js";

const KEYWORDS =
  "and|as|assert|async|await|break|class|continue|def|elif|else|except|finally|for|from|if|import|in|is|lambda|not|or" +
  "|pass|raise|return|try|while|with|yield|None|True|False";

const TOKENS = new RegExp(
  [
    /(?<comment>#.*)/,
    /(?<string>[rbfRBF]?(?:"""[^]*?"""|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'))/,
    /(?<decorator>(?<=^\s*)@[\w.]+)/,
    new RegExp(`(?<keyword>\\b(?:${KEYWORDS})\\b)`),
  ]
    .map((pattern) => pattern.source)
    .join("|"),
  "gm",
);

/** Fill a fold when it is opened for the first time. */
export function fillFolds() {
  for (const fold of document.querySelectorAll("details[data-source]")) {
    fold.addEventListener("toggle", () => fold.open && !fold.dataset.filled && fill(fold));
  }
}

async function fill(fold) {
  const name = fold.querySelector(".file-name");
  const code = fold.querySelector("code");
  const { ok, data, problem } = await send("GET", `source/${fold.dataset.source}`);
  if (!ok) {
    name.textContent = `${problem} Close this and open it again.`;
    return;
  }
  fold.dataset.filled = "";
  name.textContent = data.file;
  code.replaceChildren(...coloured(data.code));
}

function* coloured(text) {
  let end = 0;
  for (const match of text.matchAll(TOKENS)) {
    const [kind] = Object.entries(match.groups).find(([, value]) => value !== undefined);
    yield text.slice(end, match.index);
    yield make("span", kind, match[0]);
    end = match.index + match[0].length;
  }
  yield text.slice(end);
}

// What the page asks the server to do.

import { makeWay } from "./streams.js";

/** Milliseconds after which there may be no connection left for a request. */
const CROWDED = 400;

const PATIENCE = 10_000;

/**
 * Send a request, with a JSON body if there is one.
 *
 * @returns {Promise<{ok: boolean, status: number, data: any, problem: string}>} `problem` is for people; a `status` of 0
 *   is no answer
 */
export async function send(method, path, body) {
  let leave = () => {};
  const timer = setTimeout(() => { leave = makeWay(); }, CROWDED);
  try {
    const response = await fetch(path, {
      method,
      headers: body && { "content-type": "application/json" },
      body: body && JSON.stringify(body),
      signal: AbortSignal.timeout(PATIENCE),
    });
    const data = await response.json().catch(() => null);
    const problem = response.ok ? "" : describe(data, response);
    return { ok: response.ok, status: response.status, data, problem };
  } catch (error) {
    const problem =
      error.name === "TimeoutError"
        ? "No answer within ten seconds. A browser opens six connections to a server: other tabs may hold them all."
        : "The server doesn’t answer.";
    return { ok: false, status: 0, data: null, problem };
  } finally {
    clearTimeout(timer);
    leave();
  }
}

function describe(data, response) {
  const detail = data?.detail;
  const text = Array.isArray(detail) ? detail[0]?.msg : detail; // FastAPI lists what is wrong with a body
  return text ? `${text[0].toUpperCase()}${text.slice(1)}.` : `The server says ${response.status}.`;
}

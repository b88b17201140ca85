// The few things that every panel does to the page.

export const element = (id) => document.getElementById(id);

/** A new element with a class and children, which may be text. */
export function make(tag, className = "", ...children) {
  const made = document.createElement(tag);
  if (className) {
    made.className = className;
  }
  made.append(...children);
  return made;
}

/** Change a text only if it differs: a screen reader is told of each change. */
export function say(target, text) {
  if (target.textContent !== text) {
    target.textContent = text;
  }
}

/** A function that calls another one once things have been quiet for so many milliseconds. */
export function settled(call, delay = 300) {
  let timer = 0;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(call, delay);
  };
}

/** Have a screen reader told of nothing that a new connection brings at once; of what comes then, as before. */
export function hush(target) {
  target.ariaLive = "off";
  clearTimeout(hushed.get(target));
  hushed.set(target, setTimeout(() => { target.ariaLive = "polite"; }, 1500));
}

const hushed = new WeakMap();

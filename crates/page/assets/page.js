// Shows times in the reader's zone, and shows a page anew when something has changed. Without this script the page works as well.

const zone = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

function showTimes(within) {
  for (const time of within.querySelectorAll("time[datetime]")) {
    const at = new Date(time.dateTime);
    if (Number.isNaN(at.getTime())) continue;
    time.title = time.dateTime;
    time.textContent = ago(at);
  }
}

function ago(at) {
  const seconds = Math.round((Date.now() - at) / 1000);
  if (seconds < 0 || seconds >= 86_400) return zone.format(at);
  if (seconds < 60) return `${seconds} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  return `${Math.floor(seconds / 3600)} h ago`;
}

const main = document.getElementById("main");

// A reader who is about to act, or has marked some text, is left alone.
function isBusy() {
  const focus = document.activeElement;
  return document.hidden || !getSelection().isCollapsed || focus?.closest("main form") != null || main.querySelector("form:hover") !== null;
}

// What is said of an act is said once.
const once = ["redriven", "deleted", "asked"];
const here = new URL(location.href);
if (once.some((name) => here.searchParams.has(name))) {
  once.forEach((name) => here.searchParams.delete(name));
  history.replaceState(null, "", here);
}

async function showAnew() {
  const answer = await fetch(location.href, { headers: { accept: "text/html" } });
  if (!answer.ok) return;
  const next = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("main");
  if (next === null || isBusy()) return;
  // What was opened stays open. Groups have names, and the other parts of a page the same order.
  const unnamed = (within) => [...within.querySelectorAll("details:not([id])")];
  const open = unnamed(main).map((part) => part.open);
  unnamed(next).forEach((part, i) => (part.open = open[i] ?? part.open));
  for (const part of next.querySelectorAll("details[id]")) part.open = document.getElementById(part.id)?.open ?? part.open;
  const focus = [...main.querySelectorAll("a, summary")].indexOf(document.activeElement);
  main.replaceChildren(...next.childNodes);
  if (focus >= 0) main.querySelectorAll("a, summary")[focus]?.focus();
  showTimes(main);
}

showTimes(document);
setInterval(() => showTimes(document), 10_000);

// Browsers open few connections to a host at once: a page that nobody looks at holds none.
if ("live" in main.dataset) {
  const live = document.getElementById("live");
  let events;
  let working = false;

  // What happens while the page is being made, or while the reader is busy, is shown afterwards.
  let isOld = false;
  const changed = async () => {
    live.hidden = false;
    isOld = true;
    if (working) return;
    working = true;
    try {
      while (isOld && !isBusy()) {
        isOld = false;
        await showAnew();
      }
    } finally {
      working = false;
    }
  };
  setInterval(() => isOld && changed(), 1000);
  const follow = () => {
    events?.close();
    events = undefined;
    live.hidden = true;
    if (document.hidden) return;
    // The first event says that the connection is there. Much may have changed since the page was made.
    events = new EventSource("/events");
    events.addEventListener("changed", changed);
    events.addEventListener("error", () => (live.hidden = true));
  };
  document.addEventListener("visibilitychange", follow);
  follow();
}

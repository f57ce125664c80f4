// Shows times in the reader's zone, asks before it deletes, and shows a page anew when something has changed. Without this script the
// page works as well.

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

// A reader who fills in a form, or has marked some text, is left alone.
function isBusy() {
  const focus = document.activeElement;
  const isTyping = main.contains(focus) && ["INPUT", "SELECT", "TEXTAREA"].includes(focus.tagName);
  return isTyping || document.hidden || !getSelection().isCollapsed;
}

async function showAnew() {
  const answer = await fetch(location.href, { headers: { accept: "text/html" } });
  if (!answer.ok) return;
  const next = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("main");
  if (next === null || isBusy()) return;
  // What was opened stays open. The parts of a page have the same order.
  const open = [...main.querySelectorAll("details")].map((part) => part.open);
  [...next.querySelectorAll("details")].forEach((part, i) => (part.open = open[i] ?? part.open));
  const focus = [...main.querySelectorAll("a, button, summary")].indexOf(document.activeElement);
  main.replaceChildren(...next.childNodes);
  if (focus >= 0) main.querySelectorAll("a, button, summary")[focus]?.focus();
  showTimes(main);
}

showTimes(document);
setInterval(() => showTimes(document), 10_000);

document.addEventListener("click", (event) => {
  const question = event.target.closest?.("[data-ask]")?.dataset.ask;
  if (question !== undefined && !confirm(question)) event.preventDefault();
});

if ("live" in main.dataset) {
  const live = document.getElementById("live");
  const events = new EventSource("/events");
  let working = false;
  let first = true;
  events.addEventListener("changed", async () => {
    live.hidden = false;
    // The first event only says that the connection is there.
    if (first || working || isBusy()) {
      first = false;
      return;
    }
    working = true;
    try {
      await showAnew();
    } finally {
      working = false;
    }
  });
  events.addEventListener("error", () => (live.hidden = true));
}

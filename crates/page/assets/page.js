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

let uploading = false;

// A reader who is about to act, or has marked some text, is left alone.
function isBusy() {
  const focus = document.activeElement;
  return uploading || document.hidden || !getSelection().isCollapsed || focus?.closest("main form") != null || main.querySelector("form:hover") !== null;
}

// What is said of an act is said once, and stays for a while.
const saidUntil = Date.now() + 10_000;
const once = ["redriven", "deleted", "asked", "letter"];
const here = new URL(location.href);
if (once.some((name) => here.searchParams.has(name))) {
  once.forEach((name) => here.searchParams.delete(name));
  history.replaceState(null, "", here);
}

// Returns false if the reader was busy.
async function showAnew() {
  const answer = await fetch(location.href, { headers: { accept: "text/html" } });
  if (!answer.ok) return true;
  const next = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("main");
  if (next === null) return true;
  if (isBusy()) return false;
  // What was opened stays open. Groups have names, and the other parts of a page the same order.
  const unnamed = (within) => [...within.querySelectorAll("details:not([id])")];
  const open = unnamed(main).map((part) => part.open);
  unnamed(next).forEach((part, i) => (part.open = open[i] ?? part.open));
  for (const part of next.querySelectorAll("details[id]")) part.open = document.getElementById(part.id)?.open ?? part.open;
  const focus = [...main.querySelectorAll("a, summary")].indexOf(document.activeElement);
  const said = Date.now() < saidUntil ? main.querySelector(".said:not(.stays)") : null;
  main.replaceChildren(...next.childNodes);
  main.dataset.live = next.dataset.live ?? main.dataset.live;
  if (said !== null && main.querySelector(".said:not(.stays)") === null) main.querySelector("h1").after(said);
  if (focus >= 0) main.querySelectorAll("a, summary")[focus]?.focus();
  showTimes(main);
  return true;
}

// A component that is dropped or chosen is sent as it is. Without a task in the form, its name is the file's.
async function upload(form, file) {
  if (file === undefined) return;
  const task = form.dataset.upload || file.name.replace(/\.wasm$/, "");
  const said = form.querySelector(".said");
  said.hidden = false;
  said.textContent = `Uploading ${file.name} …`;
  uploading = true;
  try {
    const answer = await fetch(`/act/upload?task=${encodeURIComponent(task)}`, { method: "POST", body: file });
    if (answer.ok) return location.assign(answer.url);
    const text = await answer.text();
    const why = new DOMParser().parseFromString(text, "text/html").querySelector("p");
    said.textContent = `Not uploaded. ${why?.textContent ?? text}`;
  } catch (error) {
    said.textContent = `Not uploaded. ${error.message}`;
  }
  uploading = false;
}

// A command is copied as it stands there. If the browser does not allow that, it is marked.
main.addEventListener("click", async (event) => {
  const button = event.target.closest("button.copy");
  if (button === null) return;
  const command = button.parentElement.querySelector("pre");
  try {
    await navigator.clipboard.writeText(command.textContent);
    button.textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(command);
    button.textContent = "Marked";
  }
});

// The forms for it need this script, and are shown only with it.
document.documentElement.classList.add("script");
const uploadForm = (event) => event.target.closest("form[data-upload]");
main.addEventListener("change", (event) => {
  if (!uploadForm(event)) return;
  upload(uploadForm(event), event.target.files[0]);
  // The same file can be chosen again, when it is mended.
  event.target.value = "";
});
main.addEventListener("dragover", (event) => uploadForm(event) && event.preventDefault());
main.addEventListener("drop", (event) => {
  if (!uploadForm(event)) return;
  event.preventDefault();
  upload(uploadForm(event), event.dataTransfer.files[0]);
});

showTimes(document);
setInterval(() => showTimes(document), 10_000);

// Browsers open few connections to a host at once: a page that nobody looks at holds none.
if ("live" in main.dataset) {
  const live = document.getElementById("live");
  let events;
  let working = false;

  // What happens while the page is being made, or while the reader is busy, is shown afterwards.
  let isOld = false;
  const showIfOld = async () => {
    if (working || !isOld) return;
    working = true;
    try {
      while (isOld && !isBusy()) {
        isOld = false;
        if (!(await showAnew())) isOld = true;
      }
    } finally {
      working = false;
    }
  };
  setInterval(showIfOld, 1000);
  const follow = () => {
    events?.close();
    events = undefined;
    live.hidden = true;
    if (document.hidden) return;
    // From the moment on at which the page was made.
    events = new EventSource(`/events?seen=${main.dataset.live}`);
    events.addEventListener("open", () => (live.hidden = false));
    events.addEventListener("error", () => (live.hidden = true));
    events.addEventListener("changed", () => {
      isOld = true;
      showIfOld();
    });
  };
  document.addEventListener("visibilitychange", follow);
  follow();
}

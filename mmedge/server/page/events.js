// The last happenings, newest first, each by its newest message.

const SHOWN_EVENTS = 30;
const events = new Map();

function takeEvent(event) {
  const old = events.get(event.id);
  if (old) old.row.remove();
  const entry = { event, row: eventRow(event) };
  events.delete(event.id);
  events.set(event.id, entry);
  const rows = el("events");
  // An update keeps its place in time: sorted by when it began.
  const after = [...rows.children].find((row) => row.dataset.started <= event.started);
  rows.insertBefore(entry.row, after || null);
  while (rows.children.length > SHOWN_EVENTS) {
    events.delete(rows.lastChild.dataset.id);
    rows.lastChild.remove();
  }
  el("no-events").hidden = rows.children.length > 0;
}

const frameOf = (event, query) => `/api/v1/events/${encodeURIComponent(event.id)}/frame.jpg?${query}&of=${event.best_frame}`;

const clock = (text) => new Date(text).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" });

function eventRow(event) {
  const over = event.kind === "end";
  const picture = event.picture
    ? make("img", { src: frameOf(event, "width=160"), alt: "", loading: "lazy", decoding: "async" })
    : make("span", { class: "nothing" });
  const state = over ? make("span", { class: "off" }, span(event.duration_s)) : make("span", { class: "on" }, "● on");
  return make("li", { "data-id": event.id, "data-started": event.started },
    make("button", { type: "button", onclick: () => viewEvent(event.id) }, picture,
      make("span", {}, make("span", { class: "what" }, make("b", { title: event.prompt }, event.prompt), state),
        make("span", { class: "quiet" }, `${event.source} · ${clock(event.started)} · best ${event.best_score.toFixed(2)}`))));
}

function viewEvent(id) {
  const entry = events.get(id);
  if (!entry) return;
  const { event } = entry;
  say(el("event-title"), `${event.prompt} · ${event.source}`);
  const picture = el("event-picture");
  picture.hidden = !event.picture;
  if (event.picture) {
    picture.src = frameOf(event, "width=1280&drawn=true");
    picture.alt = "The frame of this event with the highest score";
  } else picture.removeAttribute("src");
  const ended = event.kind === "end" ? `over after ${span(event.duration_s)} (${event.reason})` : "still on";
  say(el("event-words"), `${event.trigger}: began ${new Date(event.started).toLocaleString()}, ${ended}; ` +
    `best score ${event.best_score.toFixed(3)} in frame ${event.best_frame}.`);
  el("event-view").showModal();
}

async function loadEvents() {
  const list = await call("GET", `/api/v1/events?limit=${SHOWN_EVENTS}`);
  events.clear();
  el("events").replaceChildren();
  el("no-events").hidden = list.length > 0;
  for (const event of list.reverse()) takeEvent(event);
}

// What happens when. `status` comes every second; everything else when it happens.

let session = false;

function layout() {
  const names = [...cameras.keys()];
  const card = names.length ? cameras.get(names[0]).canvas.clientWidth : 400;
  // As wide as a card on this screen, not wider; two results on their way for each camera.
  const width = Math.max(160, Math.min(1920, Math.round(card * Math.min(2, window.devicePixelRatio || 1))));
  const watch = { rate: 15, width, window: Math.max(2, 2 * names.length) };
  const asked = link.watch;
  if (!asked || asked.width !== watch.width || asked.window !== watch.window) ask(watch);
}

function takeStatus({ status }) {
  say(el("device"), status.device);
  document.title = `${status.device} · mmedge`;
  say(el("about"), `mmedge ${status.version} · up ${span(status.uptime_s)}${status.pixels ? "" : " · no pictures leave this device"}`);
  showCameras(status);
  showPrompts(status);
  showTables(status);
  layout();
  tick();
}

function tick() {
  const badge = el("link");
  say(badge, link.live ? "connected" : "no connection");
  badge.className = `badge ${link.live ? "good" : "bad"}`;
  const seconds = now() - (link.live ? link.heard : link.lost);
  const lost = !link.live && cameras.size > 0;
  show(el("alarm"), lost ? `No connection to the device for ${span(seconds)}. Everything below is old.` : "");
}

function view(name) {
  document.body.classList.remove("waiting");
  el("login").hidden = name !== "login";
  el("board").hidden = name !== "board";
  el("leave").hidden = name !== "board" || !session;
  if (name === "login") el("token").focus();
}

// Is a token needed, is it accepted, is anybody there?
async function check() {
  try {
    takeStatus({ status: await call("GET", "/api/v1/status") });
    await loadEvents();
  } catch (error) {
    if (error.status === 401) {
      session = true;
      disconnect();
      view("login");
    } else {
      link.wanted = true;
      reconnect();
    }
    tick();
    return;
  }
  view("board");
  link.wanted = true;
  connect();
}

Object.assign(link.handlers, {
  check,
  status: takeStatus,
  event: takeEvent,
  state: (change) => {
    const camera = cameras.get(change.source);
    if (camera) camera.setState(change.state, change.reason);
  },
  prompts: (change) => {
    for (const name of change.sources) if (cameras.has(name)) cameras.get(name).prompts = change.prompts;
    const editor = editors.get(change.model);
    if (editor) editor.changedTo(change.prompts, change.version);
  },
  result: (head, picture) => {
    const camera = cameras.get(head.source);
    if (camera) camera.take(head, picture);
    else send({ type: "seen", number: head.number });
  },
});

el("login-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  show(el("login-error"), "");
  try {
    await call("POST", "/api/v1/session", { token: el("token").value });
    el("token").value = "";
    session = true;
    await check();
  } catch (error) {
    show(el("login-error"), error.status ? error.message : "The device does not answer.");
  }
});

el("leave").addEventListener("click", async () => {
  disconnect();
  try { await call("DELETE", "/api/v1/session"); } finally { view("login"); }
});

window.addEventListener("resize", layout);
document.addEventListener("visibilitychange", () => { if (!document.hidden && !link.live && link.wanted) check(); });
setInterval(tick, 500);
check();

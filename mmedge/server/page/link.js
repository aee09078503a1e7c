// The socket. `live` is false as soon as it may have stopped: the server says something every second.

const SILENCE_S = 3;
const LONGEST_PAUSE_S = 5;

const link = {
  live: false, heard: -1e9, lost: now(), offset: null, measured: 0, pause: 0.5, socket: null, retry: null,
  handlers: {}, watch: null, wanted: false,
};

function connect() {
  clearTimeout(link.retry);
  if (!link.wanted) return;
  const scheme = location.protocol === "https:" ? "wss:" : "ws:";
  const socket = new WebSocket(`${scheme}//${location.host}/api/v1/live`);
  socket.binaryType = "arraybuffer";
  link.socket = socket;
  // The clock of a server that was started again is another.
  link.offset = null;
  socket.onopen = () => { if (link.socket === socket && link.watch) send(link.watch); };
  socket.onmessage = (event) => { if (link.socket === socket) hear(event.data); };
  socket.onclose = () => { if (link.socket === socket) reconnect(); };
}

function disconnect() {
  link.wanted = false;
  clearTimeout(link.retry);
  const socket = link.socket;
  link.socket = null;
  if (socket) socket.close();
  quiet();
}

function reconnect() {
  const old = link.socket;
  link.socket = null;
  if (old) old.close();
  quiet();
  clearTimeout(link.retry);
  link.retry = setTimeout(() => link.handlers.check(), link.pause * (500 + 500 * Math.random()));
  link.pause = Math.min(LONGEST_PAUSE_S, link.pause * 2);
}

function quiet() {
  if (link.live) link.lost = link.heard;
  link.live = false;
}

function send(message) {
  if (link.socket && link.socket.readyState === WebSocket.OPEN) link.socket.send(JSON.stringify(message));
}

function ask(watch) {
  link.watch = { type: "watch", ...watch };
  send(link.watch);
}

function hear(data) {
  let head, picture = null;
  if (typeof data === "string") head = JSON.parse(data);
  else {
    const length = new DataView(data).getUint32(0);
    head = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, length)));
    picture = new Blob([new Uint8Array(data, 4 + length)], { type: "image/jpeg" });
  }
  link.heard = now();
  if (!link.live) { link.live = true; link.pause = 0.5; }
  measure(head.clock);
  const kind = head.type === "frame" ? "result" : head.type;
  if (link.handlers[kind]) link.handlers[kind](head, picture);
}

// The least delay between the server's clock and ours is the best guess of how they differ; it may creep up a little,
// as clocks drift. What comes later than that was held up on its way, and is older than it seems.
function measure(clock) {
  const sample = link.heard - clock;
  const crept = link.offset === null ? sample : link.offset + 2e-4 * (link.heard - link.measured);
  link.offset = Math.min(sample, crept);
  link.measured = link.heard;
}

// Seconds since the frame was taken: its age when it was sent, and how long it was on its way.
const ageOf = (head) => head.age_now_ms / 1000 + now() - (head.clock + link.offset);

setInterval(() => {
  if (link.live && now() - link.heard > SILENCE_S) reconnect();
}, 250);

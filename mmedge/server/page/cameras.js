// One card for each source. A picture that is not what is there now is grey and says so.

const LATE_S = 2;
const LATEST_S = 60;
const BAR_LINES = 8;
const WORDS = {
  connecting: ["Connecting", "no picture yet"], stale: ["Stale", "no new pictures come"],
  frozen: ["Frozen", "the camera repeats one picture"], reconnecting: ["Reconnecting", "the camera was lost"],
  ended: ["Ended", "it gave all it had"], failed: ["Failed", "nobody tries again"],
};
const TONES = { live: "good", ended: "still", failed: "bad", frozen: "bad", stale: "bad" };

const cameras = new Map();

class Camera {
  constructor(name) {
    this.name = name;
    this.state = "connecting";
    this.reason = null;
    this.size = null;
    this.prompts = [];
    this.head = null;
    this.bitmap = null;
    this.newest = 0;
    this.taken = 0;
    this.since = now();
    this.pace = null;
    this.badge = make("p", { class: "badge" });
    this.canvas = make("canvas", { width: 640, height: 360, role: "img" });
    this.banner = make("p", { class: "banner", hidden: true });
    this.frame = make("span", { class: "quiet" });
    this.bars = make("div", { class: "bars", hidden: true });
    this.numbers = {};
    const list = make("dl", { class: "numbers" });
    for (const term of ["rate", "latency", "age", "dropped"]) {
      this.numbers[term] = make("dd", {}, "–");
      list.append(make("div", {}, make("dt", {}, term), this.numbers[term]));
    }
    this.latency = new Chart("Latency", "ms", 1);
    this.rate = new Chart("Rate", "/s", 1);
    this.node = make("article", { class: "camera panel old", "aria-label": `Camera ${name}` },
      make("div", { class: "head" }, make("h3", {}, name), this.frame, this.badge),
      make("div", { class: "view" }, this.canvas, this.banner), this.bars, list,
      make("div", { class: "charts" }, this.latency.node, this.rate.node));
  }

  status(source, prompts) {
    this.prompts = prompts;
    this.size = source.size;
    this.pace = source.rate;
    this.setState(source.state, source.reason, source.state_s);
    const dropped = Object.entries(source.dropped).filter((entry) => entry[1] > 0);
    say(this.numbers.rate, `${fixed(source.rate, 1)}/s`);
    say(this.numbers.latency, `${fixed(source.latency_ms, 1)} ms`);
    const total = dropped.reduce((sum, entry) => sum + entry[1], 0);
    say(this.numbers.dropped, String(total));
    this.numbers.dropped.title = dropped.map(([reason, count]) => `${reason}: ${count}`).join(", ");
    say(this.frame, source.size ? `${source.size[0]}×${source.size[1]}` : "");
    this.latency.add(source.state === "live" ? source.latency_ms : null);
    this.rate.add(source.state === "live" ? source.rate : null);
  }

  setState(state, reason, seconds = 0) {
    this.since = now() - seconds;
    this.state = state;
    this.reason = reason;
    this.refresh();
  }

  async take(head, picture) {
    this.newest = head.number;
    let bitmap = null;
    try {
      if (picture) bitmap = await createImageBitmap(picture);
    } catch {
      send({ type: "seen", number: head.number });
      return;
    }
    send({ type: "seen", number: head.number });
    if (head.number < this.newest) { if (bitmap) bitmap.close(); return; }
    if (this.bitmap) this.bitmap.close();
    this.bitmap = bitmap;
    this.head = head;
    this.taken = now() - ageOf(head);
    this.draw();
    this.refresh();
  }

  // Why what is shown is not what is there now; null where it is.
  doubt() {
    if (!link.live) return "No connection to the device";
    const state = this.state !== "live" || !this.head ? this.state : this.head.result.state;
    if (state !== "live") {
      const [name, words] = WORDS[state] || [state, ""];
      return `${name}: ${(state === this.state && this.reason) || words}`;
    }
    if (!this.head) return "No result yet";
    // A camera that gives one result in ten seconds is not late after two.
    const most = Math.max(LATE_S, Math.min(LATEST_S, 3 / (this.pace || 1)));
    return now() - this.taken > most ? "Late" : null;
  }

  refresh() {
    const age = this.head ? Math.max(0, now() - this.taken) : null;
    const doubt = this.doubt();
    const state = link.live ? this.state : "no connection";
    const late = doubt && state === "live";
    say(this.badge, late ? (this.head ? "late" : "waiting") : state);
    this.badge.className = `badge ${late ? "" : TONES[state] || (link.live ? "" : "bad")}`;
    this.node.classList.toggle("old", doubt !== null);
    // A frozen camera stamps its one picture anew each time.
    const since = this.state === "frozen" && link.live ? ` · for ${span(now() - this.since)}` : age === null ? "" : ` · picture ${span(age)} old`;
    show(this.banner, doubt === null ? "" : doubt + since);
    say(this.numbers.age, age === null || this.state === "frozen" ? "–" : doubt === null ? `${Math.round(age * 1000)} ms` : span(age));
  }

  draw() {
    const { result } = this.head;
    const [width, height] = this.head.size || this.size || [640, 360];
    const shown = this.bitmap ? [this.bitmap.width, this.bitmap.height] : [640, Math.round(640 * height / width)];
    if (this.canvas.width !== shown[0]) this.canvas.width = shown[0];
    if (this.canvas.height !== shown[1]) this.canvas.height = shown[1];
    const pen = this.canvas.getContext("2d");
    if (this.bitmap) pen.drawImage(this.bitmap, 0, 0);
    else this.ground(pen, shown);
    if (result.boxes) this.boxes(pen, result, shown[0] / width, shown[1] / height);
    this.scores(result);
    const found = result.boxes ? `${result.labels.length} found: ${result.labels.join(", ") || "nothing"}` : "scores below";
    this.canvas.setAttribute("aria-label", `${this.name}, frame ${result.frame}: ${found}`);
    this.canvas.dataset.boxes = result.boxes ? result.boxes.length : 0;
    this.canvas.dataset.version = result.prompt_version;
  }

  ground(pen, [width, height]) {
    pen.fillStyle = "#161b21";
    pen.fillRect(0, 0, width, height);
    pen.strokeStyle = "#242c35";
    pen.lineWidth = 1;
    pen.beginPath();
    for (let x = 0.5; x < width; x += 40) { pen.moveTo(x, 0); pen.lineTo(x, height); }
    for (let y = 0.5; y < height; y += 40) { pen.moveTo(0, y); pen.lineTo(width, y); }
    pen.stroke();
    pen.fillStyle = "#7d8894";
    pen.font = "13px system-ui, sans-serif";
    pen.textBaseline = "alphabetic";
    pen.fillText("results only, no pictures", 12, height - 12);
  }

  boxes(pen, result, scaleX, scaleY) {
    // In units of the screen, not of the picture, so that a small card is as legible as a large one.
    const unit = Math.max(0.6, this.canvas.width / (this.canvas.clientWidth || this.canvas.width));
    pen.font = `600 ${13 * unit}px system-ui, sans-serif`;
    pen.textBaseline = "middle";
    for (let k = result.labels.length - 1; k >= 0; k--) {
      const [x0, y0, x1, y1] = result.boxes[k];
      const color = colorOf(this.prompts, result.labels[k]);
      const x = x0 * scaleX, y = y0 * scaleY;
      pen.lineWidth = 2 * unit;
      pen.strokeStyle = color;
      pen.strokeRect(x, y, (x1 - x0) * scaleX, (y1 - y0) * scaleY);
      const track = result.track_ids ? ` #${result.track_ids[k]}` : "";
      const text = `${result.labels[k]}${track} ${result.scores[k].toFixed(2)}`;
      const wide = Math.min(pen.measureText(text).width + 10 * unit, this.canvas.width), high = 19 * unit;
      const left = Math.max(0, Math.min(x - unit, this.canvas.width - wide));
      const top = y - high >= 0 ? y - high : y;
      pen.fillStyle = color;
      pen.fillRect(left, top, wide, high);
      pen.fillStyle = luminous(color) ? "#10151a" : "#ffffff";
      pen.fillText(text, left + 5 * unit, top + high / 2, wide - 10 * unit);
    }
  }

  scores(result) {
    const plain = !result.boxes && Array.isArray(result.scores) && result.labels;
    this.bars.hidden = !plain;
    if (!plain) return;
    const order = result.scores.map((score, k) => [score, k]).sort((a, b) => b[0] - a[0]).slice(0, BAR_LINES);
    fill(this.bars, ...order.map(([score, k]) => {
      const filled = paint(make("span"), colorOf(this.prompts, result.labels[k]));
      filled.style.width = `${100 * Math.max(0, Math.min(1, score))}%`;
      const track = make("div", { class: "track", role: "meter", "aria-label": result.labels[k], "aria-valuemin": 0, "aria-valuemax": 1, "aria-valuenow": score }, filled);
      return make("div", { class: "bar" }, make("span", { title: result.labels[k] }, result.labels[k]), track, make("span", {}, score.toFixed(2)));
    }));
  }
}

function luminous(color) {
  const value = parseInt(color.slice(1), 16);
  return 0.3 * (value >> 16) + 0.59 * ((value >> 8) & 255) + 0.11 * (value & 255) > 140;
}

function showCameras(status) {
  const names = Object.keys(status.sources);
  for (const name of cameras.keys()) {
    if (!names.includes(name)) { cameras.get(name).node.remove(); cameras.delete(name); }
  }
  for (const name of names) {
    if (!cameras.has(name)) {
      cameras.set(name, new Camera(name));
      el("cameras").append(cameras.get(name).node);
    }
    const source = status.sources[name];
    const model = status.models[source.model];
    cameras.get(name).status(source, (model && model.info.prompts) || []);
  }
}

setInterval(() => cameras.forEach((camera) => camera.refresh()), 250);

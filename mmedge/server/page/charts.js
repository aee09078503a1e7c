// Two minutes of one value, drawn at the screen's own resolution. A gap is a gap.

const CHART_S = 120;

class Chart {
  constructor(name, unit, digits) {
    this.unit = unit;
    this.digits = digits;
    this.points = [];
    this.canvas = make("canvas", { role: "img" });
    this.value = make("b");
    this.most = make("span", { class: "most" });
    this.name = name;
    this.node = make("figure", {}, make("figcaption", {}, make("span", {}, name), make("span", {}, this.value, this.most)), this.canvas);
  }

  add(value) {
    const at = now();
    this.points.push([at, value]);
    while (this.points.length && this.points[0][0] < at - CHART_S) this.points.shift();
    const known = this.points.map((point) => point[1]).filter((each) => each !== null);
    const most = known.length ? Math.max(...known) : null;
    say(this.value, `${fixed(value, this.digits)} ${this.unit}`);
    say(this.most, `, most ${fixed(most, this.digits)}`);
    const words = this.value.textContent + this.most.textContent;
    this.canvas.setAttribute("aria-label", `${this.name} of the last two minutes: ${words}`);
    this.draw(most);
  }

  draw(most) {
    const ratio = window.devicePixelRatio || 1;
    const width = Math.round(this.canvas.clientWidth * ratio);
    const height = Math.round(this.canvas.clientHeight * ratio);
    if (!width || !height) return;
    if (this.canvas.width !== width || this.canvas.height !== height) {
      this.canvas.width = width;
      this.canvas.height = height;
    }
    const pen = this.canvas.getContext("2d");
    const style = getComputedStyle(document.documentElement);
    pen.clearRect(0, 0, width, height);
    pen.strokeStyle = style.getPropertyValue("--line");
    pen.lineWidth = ratio;
    pen.beginPath();
    for (const y of [0.5 * ratio, height / 2, height - 0.5 * ratio]) { pen.moveTo(0, y); pen.lineTo(width, y); }
    pen.stroke();
    if (!most) return;
    pen.strokeStyle = style.getPropertyValue("--accent");
    pen.lineWidth = 1.5 * ratio;
    pen.lineJoin = "round";
    pen.beginPath();
    const end = now();
    let last = null;
    for (const [at, value] of this.points) {
      const x = width * (1 - (end - at) / CHART_S);
      const y = height - 2 * ratio - (value / (most * 1.1)) * (height - 4 * ratio);
      if (value !== null) (last !== null && at - last < 3 ? pen.lineTo(x, y) : pen.moveTo(x, y));
      last = value === null ? null : at;
    }
    pen.stroke();
  }
}
